//! The served OpenAPI document: the contract, what we say beyond it, and only what this server answers.
//!
//! Two files are embedded. `openapi/contract.json` is a byte copy of the contract and is never edited.
//! `openapi/extensions.json` is merged over it: our own operations (tag `extension`), added properties, limits,
//! descriptions and examples. How the two merge is told in `merge`, what `everywhere` in the second means in
//! `everywhere`.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use self::merge::merge;

mod everywhere;
mod merge;

const CONTRACT: &str = include_str!("../../openapi/contract.json");
const EXTENSIONS: &str = include_str!("../../openapi/extensions.json");

/// Where `$ref` points to; other references do not occur in the contract.
const COMPONENTS: &str = "#/components/";

/// Notes on how the contract was found. They are ours to read, not the reader's of the served document.
const PROVENANCE: [&str; 3] = ["x-derived-from", "x-name-origin", "x-status-origin"];

/// The OpenAPI 3.1 document for these operations, each a method (`"GET"`) and a path (`"/customers/{id}"`).
///
/// Operations that neither the contract nor the extensions describe are passed over; that none are left undescribed
/// is for a test of the router to prove. Tags without operations, and components that nothing refers to, are left
/// out, and so are webhooks while none are sent. Building takes some milliseconds: build once, serve many times.
pub fn document(served: &[(&str, &str)]) -> Value {
    let mut document = described();
    restrict(&mut document, served);
    remove_keys(&mut document, &PROVENANCE);
    document
}

/// The operations of the contract: method (`"GET"`), path and operation id, by path.
pub fn contract_operations() -> Vec<(String, String, String)> {
    operations(&parse(CONTRACT))
}

/// Contract and extensions together, every operation, served or not.
fn described() -> Value {
    let mut document = parse(CONTRACT);
    merge(&mut document, parse(EXTENSIONS));
    let everywhere = document.as_object_mut().and_then(|document| document.remove("everywhere")).unwrap_or_default();
    everywhere::complete(&mut document, &everywhere);
    document
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).expect("the embedded documents are JSON; the tests of this file read them")
}

fn operations(document: &Value) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    for (path, item) in members(&document["paths"]) {
        for (method, operation) in members(item) {
            let id = operation["operationId"].as_str().unwrap_or_default();
            found.push((method.to_uppercase(), path.clone(), id.to_owned()));
        }
    }
    found
}

/// Takes away what is not served and what then has no use.
fn restrict(document: &mut Value, served: &[(&str, &str)]) {
    object_mut_of(document).remove("webhooks");
    let paths = object_mut_of(&mut document["paths"]);
    for (path, item) in paths.iter_mut() {
        object_mut_of(item).retain(|method, _| {
            served.iter().any(|served| served.0.eq_ignore_ascii_case(method) && served.1 == path)
        });
    }
    paths.retain(|_, item| members(item).next().is_some());
    retain_tags(document);
    retain_components(document);
}

fn retain_tags(document: &mut Value) {
    let mut used = BTreeSet::new();
    for (_, item) in members(&document["paths"]) {
        for (_, operation) in members(item) {
            used.extend(elements(operation.get("tags")).filter_map(Value::as_str).map(str::to_owned));
        }
    }
    if let Some(Value::Array(tags)) = document.get_mut("tags") {
        tags.retain(|tag| tag["name"].as_str().is_some_and(|name| used.contains(name)));
    }
}

fn retain_components(document: &mut Value) {
    let components = document["components"].take();
    let used = reachable(&components, document);
    document["components"] = components;
    let components = object_mut_of(&mut document["components"]);
    for (kind, entries) in components.iter_mut().filter(|(kind, _)| *kind != "securitySchemes") {
        object_mut_of(entries).retain(|name, _| used.contains(&format!("{kind}/{name}")));
    }
    components.retain(|_, entries| members(entries).next().is_some());
}

/// The components that `root` refers to, directly or through others, as `schemas/CustomerResponse`.
fn reachable(components: &Value, root: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![root];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(object) => open.extend(object.values()),
            Value::Array(array) => open.extend(array),
            // Every string is looked at, not `$ref` alone: the mapping of a discriminator refers too.
            Value::String(text) => {
                if let Some(name) = text.strip_prefix(COMPONENTS)
                    && let Some(component) = components.pointer(&format!("/{name}"))
                    && found.insert(name.to_owned())
                {
                    open.push(component);
                }
            }
            _ => {}
        }
    }
    found
}

fn remove_keys(value: &mut Value, keys: &[&str]) {
    match value {
        Value::Object(object) => {
            object.retain(|key, _| !keys.contains(&key.as_str()));
            object.values_mut().for_each(|member| remove_keys(member, keys));
        }
        Value::Array(array) => array.iter_mut().for_each(|element| remove_keys(element, keys)),
        _ => {}
    }
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn elements(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

fn members_mut(value: &mut Value) -> impl Iterator<Item = &mut Value> {
    object_mut(value).map(|(_, member)| member)
}

fn elements_mut(value: Option<&mut Value>) -> impl Iterator<Item = &mut Value> {
    value.and_then(Value::as_array_mut).into_iter().flatten()
}

fn object_mut(value: &mut Value) -> impl Iterator<Item = (&String, &mut Value)> {
    value.as_object_mut().into_iter().flatten()
}

fn object_mut_of(value: &mut Value) -> &mut Map<String, Value> {
    value.as_object_mut().expect("an object of the embedded documents; the tests of this file build all of it")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::everywhere::needs_key;
    use super::merge::identity;
    use super::*;

    /// Everything that is described, ours included.
    fn whole() -> Value {
        serve(&operations(&described()))
    }

    fn serve(operations: &[(String, String, String)]) -> Value {
        let served: Vec<_> = operations.iter().map(|(method, path, _)| (method.as_str(), path.as_str())).collect();
        document(&served)
    }

    fn first_release() -> Vec<(String, String, String)> {
        let mut found = operations(&described());
        found.retain(|(_, path, _)| {
            let nouns = ["customers", "tags", "integrations", "test-clock", "openapi.json", "docs"];
            nouns.iter().any(|noun| path.split('/').nth(1) == Some(noun))
        });
        found
    }

    fn each_operation(document: &Value) -> Vec<(&str, &Value)> {
        let items = members(&document["paths"]);
        items.flat_map(|(path, item)| members(item).map(move |(_, operation)| (path.as_str(), operation))).collect()
    }

    fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
        match value.get("$ref").and_then(Value::as_str) {
            Some(reference) => document.pointer(reference.trim_start_matches('#')).expect(reference),
            None => value,
        }
    }

    fn walk<'a>(value: &'a Value, visit: &mut impl FnMut(&'a Value)) {
        visit(value);
        match value {
            Value::Object(object) => object.values().for_each(|member| walk(member, visit)),
            Value::Array(array) => array.iter().for_each(|element| walk(element, visit)),
            _ => {}
        }
    }

    #[test]
    fn the_contract_has_135_operations_and_each_is_kept() {
        let contract = contract_operations();
        assert_eq!(contract.len(), 135);
        assert_eq!(operations(&serve(&contract)), contract);
    }

    #[test]
    fn what_the_extensions_describe_exists_or_is_tagged_as_extension() {
        let contract: BTreeSet<_> = contract_operations().into_iter().collect();
        let document = described();
        for (operation, (_, described)) in operations(&document).into_iter().zip(each_operation(&document)) {
            let extension = elements(described.get("tags")).any(|tag| tag == "extension");
            assert_ne!(contract.contains(&operation), extension, "{operation:?}");
        }
    }

    #[test]
    fn only_what_is_served_remains() {
        let document = document(&[("GET", "/tags"), ("post", "/tags"), ("GET", "/nowhere")]);
        let names = |value: &Value| members(value).map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&document["paths"]), ["/tags"]);
        assert_eq!(names(&document["paths"]["/tags"]), ["get", "post"]);
        assert_eq!(document.get("webhooks"), None);
        let schemas = names(&document["components"]["schemas"]);
        assert!(schemas.contains(&"TaggableEntityType".to_owned()), "{schemas:?}");
        assert!(!schemas.contains(&"CustomerResponse".to_owned()), "{schemas:?}");
        let tags: Vec<_> = elements(document.get("tags")).map(|tag| tag["name"].clone()).collect();
        assert_eq!(tags, ["tags", "extension"]);
    }

    #[test]
    fn every_reference_resolves_and_every_component_is_used() {
        for document in [whole(), serve(&first_release())] {
            walk(&document, &mut |value| {
                let _ = resolve(&document, value);
            });
            let used = reachable(&document["components"], &document);
            for (kind, entries) in members(&document["components"]).filter(|(kind, _)| *kind != "securitySchemes") {
                for (name, _) in members(entries) {
                    assert!(used.contains(&format!("{kind}/{name}")), "{kind}/{name}");
                }
            }
        }
    }

    #[test]
    fn every_operation_id_is_unique() {
        let operations = operations(&whole());
        let ids: BTreeSet<_> = operations.iter().map(|(_, _, id)| id).collect();
        assert_eq!(ids.len(), operations.len());
        assert!(!ids.contains(&String::new()));
    }

    #[test]
    fn the_document_has_the_structure_of_openapi_3_1() {
        let document = whole();
        assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1.")));
        assert_eq!(document["info"]["title"], "Cuenta");
        assert!(document["info"]["version"].is_string());
        assert_eq!(document["servers"], json!([{"url": "/"}]));
        assert_eq!(document.get("everywhere"), None);
        walk(&document, &mut |value| assert!(!value.is_null(), "a null in the served document"));
        let tags: Vec<_> = elements(document.get("tags")).map(|tag| tag["name"].clone()).collect();
        for (path, operation) in each_operation(&document) {
            let id = &operation["operationId"];
            assert!(elements(operation.get("tags")).all(|tag| tags.contains(tag)), "{id}");
            check_parameters(&document, path, operation);
            check_responses(&document, operation);
        }
    }

    fn check_parameters(document: &Value, path: &str, operation: &Value) {
        let id = &operation["operationId"];
        let mut seen = BTreeSet::new();
        for parameter in elements(operation.get("parameters")) {
            let parameter = resolve(document, parameter);
            assert!(parameter["schema"].is_object(), "{id}: {parameter}");
            assert!(matches!(parameter["in"].as_str(), Some("query" | "header" | "path")), "{id}: {parameter}");
            assert!(parameter["in"] != "path" || parameter["required"] == true, "{id}: {parameter}");
            assert!(seen.insert(identity(parameter)), "{id}: twice {parameter}");
        }
        let declared: BTreeSet<_> =
            seen.iter().filter(|(place, _)| *place == "path").map(|(_, name)| *name).collect();
        let template: BTreeSet<_> =
            path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        assert_eq!(declared, template, "{id}");
    }

    fn check_responses(document: &Value, operation: &Value) {
        let id = &operation["operationId"];
        assert!(members(&operation["responses"]).any(|(status, _)| status.starts_with('2')), "{id}");
        assert!(!needs_key(operation) || operation["responses"].get("default").is_some(), "{id}");
        for (status, response) in members(&operation["responses"]) {
            let response = resolve(document, response);
            assert!(response["description"].is_string(), "{id} {status}");
            assert!(!needs_key(operation) || response["headers"].get("X-Request-Id").is_some(), "{id} {status}");
            let error = status == "default" || status.starts_with(['4', '5']) && status != "502";
            assert!(!error || response["content"].get("application/problem+json").is_some(), "{id} {status}");
        }
    }

    #[test]
    fn schemas_require_only_what_they_have_and_requests_are_closed() {
        let document = whole();
        walk(&document["components"]["schemas"], &mut |schema| {
            for name in elements(schema.get("required")).filter_map(Value::as_str) {
                assert!(schema["properties"].get(name).is_some(), "{name} in {schema}");
            }
        });
        for name in ["CreateCustomerRequest", "ContactRequest", "UnitPricingModel", "CreateTagRequest"] {
            assert_eq!(document["components"]["schemas"][name]["additionalProperties"], false, "{name}");
        }
        let customer = &document["components"]["schemas"]["CustomerResponse"];
        assert_eq!(customer.get("additionalProperties"), None);
    }

    #[test]
    fn the_first_release_is_described_for_people() {
        let document = serve(&first_release());
        for (_, operation) in each_operation(&document) {
            let id = &operation["operationId"];
            assert!(operation["summary"].is_string() && operation["description"].is_string(), "{id}");
            for parameter in elements(operation.get("parameters")) {
                let parameter = resolve(&document, parameter);
                assert!(parameter["description"].is_string(), "{id}: {parameter}");
            }
            check_examples(&document, operation);
        }
    }

    fn check_examples(document: &Value, operation: &Value) {
        let id = &operation["operationId"];
        let answer = operation["responses"].get("200").map(|answer| &answer["content"]);
        for content in [operation.get("requestBody").map(|body| &body["content"]), answer].into_iter().flatten() {
            let Some(media) = content.get("application/json").filter(|media| media["schema"].get("$ref").is_some())
            else {
                continue;
            };
            let (schema, example) = (resolve(document, &media["schema"]), &media["example"]);
            assert!(example.is_object(), "{id}");
            for name in elements(schema.get("required")).filter_map(Value::as_str) {
                assert!(example.get(name).is_some(), "{id}: no {name}");
            }
            for (name, _) in members(example) {
                assert!(schema["properties"].get(name).is_some(), "{id}: unknown {name}");
            }
        }
    }
}
