//! How one JSON document is laid over another.
//!
//! Objects merge key by key, `null` removes (RFC 7396), everything else replaces. So the extensions can hold no
//! `null` of their own, not even in an example. Three kinds of arrays are sets and merge instead of replacing:
//!
//! | Array | Same element | What happens |
//! |---|---|---|
//! | `parameters` | same `$ref`, else same `in` and `name` | the element merges; a new one is appended |
//! | `tags` of the document | same `name` | the element merges; a new one is appended |
//! | `required`, `tags` of an operation | same string | a new one is appended |

use serde_json::{Map, Value};

/// Merges `patch` over `base`.
pub(super) fn merge(base: &mut Value, patch: Value) {
    match (base, patch) {
        (Value::Object(base), Value::Object(patch)) => {
            for (key, patch) in patch {
                merge_member(base, key, patch);
            }
        }
        (base, patch) => *base = without_nulls(patch),
    }
}

fn merge_member(base: &mut Map<String, Value>, key: String, patch: Value) {
    if patch.is_null() {
        base.remove(&key);
        return;
    }
    match (base.get_mut(&key), patch) {
        (Some(Value::Array(base)), Value::Array(patch)) if is_set(&key) => {
            patch.into_iter().for_each(|element| merge_element(base, element));
        }
        (Some(base), patch) => merge(base, patch),
        (None, patch) => {
            base.insert(key, without_nulls(patch));
        }
    }
}

fn is_set(key: &str) -> bool {
    matches!(key, "parameters" | "tags" | "required")
}

fn merge_element(set: &mut Vec<Value>, element: Value) {
    match set.iter_mut().find(|known| identity(known) == identity(&element)) {
        Some(known) => merge(known, element),
        None => set.push(without_nulls(element)),
    }
}

/// What makes two elements of a set the same one.
pub(super) fn identity(element: &Value) -> (&str, &str) {
    let text = |key: &str| element.get(key).and_then(Value::as_str);
    match (element.as_str(), text("$ref")) {
        (Some(word), _) => ("", word),
        (None, Some(reference)) => ("$ref", reference),
        (None, None) => (text("in").unwrap_or_default(), text("name").unwrap_or_default()),
    }
}

/// A patch for something that is not there yet: its removals have nothing to remove.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(object) => object
            .into_iter()
            .filter(|(_, member)| !member.is_null())
            .map(|(key, member)| (key, without_nulls(member)))
            .collect(),
        other => other,
    }
}

/// Merges `specific` over a copy of `default` and leaves the result in its place.
pub(super) fn underlay(specific: &mut Value, default: &Value) {
    let mut merged = default.clone();
    merge(&mut merged, specific.take());
    *specific = merged;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check_merge(base: Value, patch: Value, expected: Value) {
        let mut merged = base;
        merge(&mut merged, patch);
        assert_eq!(merged, expected);
    }

    #[test]
    fn objects_merge_and_everything_else_replaces() {
        check_merge(
            json!({"a": {"b": 1, "c": [1, 2]}, "d": "old"}),
            json!({"a": {"c": [3], "e": {"f": true}}, "d": {"new": 1}}),
            json!({"a": {"b": 1, "c": [3], "e": {"f": true}}, "d": {"new": 1}}),
        );
    }

    #[test]
    fn null_removes_and_is_never_added() {
        check_merge(
            json!({"a": 1, "b": {"c": 2}}),
            json!({"a": null, "b": {"c": null, "d": {"e": null}}, "f": [{"g": 1}]}),
            json!({"b": {"d": {}}, "f": [{"g": 1}]}),
        );
    }

    #[test]
    fn parameters_merge_by_reference_or_place_and_name() {
        check_merge(
            json!({"parameters": [{"$ref": "#/a"}, {"in": "query", "name": "id"}, {"in": "path", "name": "id"}]}),
            json!({"parameters": [{"in": "path", "name": "id", "example": 7}, {"$ref": "#/a"}, {"$ref": "#/b"}]}),
            json!({"parameters": [{"$ref": "#/a"}, {"in": "query", "name": "id"},
                {"in": "path", "name": "id", "example": 7}, {"$ref": "#/b"}]}),
        );
    }

    #[test]
    fn required_and_tags_merge_as_sets() {
        check_merge(
            json!({"required": ["a", "b"], "tags": [{"name": "x"}], "enum": ["a"]}),
            json!({"required": ["b", "c"], "tags": [{"name": "x", "description": "X"}, {"name": "y"}], "enum": ["b"]}),
            json!({"required": ["a", "b", "c"], "tags": [{"name": "x", "description": "X"}, {"name": "y"}],
                "enum": ["b"]}),
        );
    }

    #[test]
    fn a_default_gives_way_to_what_is_there() {
        let mut schema = json!({"maxLength": 5, "type": "string"});
        underlay(&mut schema, &json!({"maxLength": 255, "minLength": 1}));
        assert_eq!(schema, json!({"maxLength": 5, "minLength": 1, "type": "string"}));
    }
}
