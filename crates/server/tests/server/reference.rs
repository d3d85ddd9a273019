//! Holds answers against the served document: status, content type, headers and body. A property that the document does not
//! name is a fault as well.

use crate::app::Answer;
use jsonschema::Validator;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

/// The served document.
pub static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_slice(cuenta::http::router::document()).expect("the document is JSON"));

/// The document's schemas, closed: an answer may hold nothing that they do not name.
static CLOSED: LazyLock<Value> = LazyLock::new(|| {
    let mut components = DOCUMENT["components"].clone();
    for (name, schema) in components["schemas"].as_object_mut().expect("schemas") {
        // These two are parts of another schema, and are closed where they are used.
        let is_part = matches!(name.as_str(), "ErrorResponse" | "GatewayErrorResponse");
        if !is_part && schema.get("properties").is_some() {
            schema["unevaluatedProperties"] = json!(false);
        }
    }
    components
});

/// Headers that the document promises with every answer behind the gate.
const ALWAYS: [&str; 2] = ["x-request-id", "content-length"];

/// The path of the document that a request's path means, and its item.
pub fn path_of(path: &str) -> Option<(&'static str, &'static Value)> {
    let path = path.split('?').next().unwrap_or_default();
    let fits = |template: &str| {
        let (wanted, given): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
        wanted.len() == given.len()
            && wanted
                .iter()
                .zip(&given)
                .all(|(wanted, given)| wanted == given || wanted.starts_with('{') && !given.is_empty())
    };
    let paths = DOCUMENT["paths"].as_object().expect("paths");
    // A fixed segment wins over a name.
    let mut fitting: Vec<_> = paths.iter().filter(|(template, _)| fits(template)).collect();
    fitting.sort_by_key(|(template, _)| template.matches('{').count());
    fitting.first().map(|(template, item)| (template.as_str(), *item))
}

fn resolve(value: &'static Value) -> &'static Value {
    match value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
        Some(pointer) => DOCUMENT.pointer(pointer).expect("the reference leads somewhere"),
        None => value,
    }
}

/// Checks an answer, and the request that was understood.
pub fn check(method: &str, path: &str, sent: &[u8], answer: &Answer) {
    let what = format!("{method} {path}: {answer:?}");
    for name in ALWAYS {
        let expected = name != "content-length" || answer.status != 204;
        assert!(!expected || answer.headers.contains_key(name), "no {name} in {what}");
    }
    let operation = path_of(path).and_then(|(_, item)| item.get(method.to_lowercase()));
    let Some(operation) = operation else {
        assert!(
            matches!(answer.status, 400 | 401 | 404 | 405 | 414 | 429 | 431),
            "an answer nobody described: {what}"
        );
        check_body(&json!({"$ref": "#/components/schemas/ErrorResponse"}), answer, &what);
        return check_error(answer, &what);
    };
    let responses = &operation["responses"];
    let described = responses.get(answer.status.to_string()).or_else(|| responses.get("default"));
    let described = resolve(described.unwrap_or_else(|| panic!("an undescribed status: {what}")));
    let promised = described["headers"].as_object().into_iter().flatten().map(|(name, _)| name.to_lowercase());
    let promised: Vec<_> = promised.collect();
    for name in [
        "retry-after",
        "allow",
        "www-authenticate",
        "transient-error",
        "idempotency-key",
        "idempotent-replayed",
        "ratelimit",
    ] {
        let is_there = answer.headers.contains_key(name);
        assert!(!is_there || promised.iter().any(|known| known == name), "undescribed {name}: {what}");
    }
    match described["content"].as_object() {
        None => assert!(answer.body.is_empty() && !answer.headers.contains_key("content-type"), "a body: {what}"),
        Some(content) => {
            let media = answer.header("content-type").split(';').next().unwrap_or_default().to_owned();
            let schema = content.get(&media).unwrap_or_else(|| panic!("another content type: {what}"));
            if media.contains("json") {
                check_body(&schema["schema"], answer, &what);
            }
        }
    }
    if answer.status >= 400 {
        check_error(answer, &what);
    } else if let Some(schema) = operation.pointer("/requestBody/content/application~1json/schema") {
        let body: Value = serde_json::from_slice(sent).expect("what was understood is JSON");
        assert_fits(Side::Request, schema, &body, &format!("the request of {what}"));
    }
}

fn check_body(schema: &Value, answer: &Answer, what: &str) {
    let mut schema = schema.clone();
    schema["unevaluatedProperties"] = json!(false);
    // A 401 has one member more, which its own schema describes.
    if answer.status == 401 {
        schema = json!({"$ref": "#/components/schemas/UnauthorizedErrorBody", "unevaluatedProperties": false});
    }
    if schema == json!({"type": "object", "unevaluatedProperties": false}) {
        schema = json!({"type": "object"});
    }
    assert_fits(Side::Answer, &schema, &answer.json(), what);
}

/// What holds for every refusal (contract section 4, idempotency 27).
fn check_error(answer: &Answer, what: &str) {
    let body = answer.json();
    assert_eq!(answer.header("content-type"), "application/problem+json", "{what}");
    assert_eq!(body["status"], answer.status, "{what}");
    assert_eq!(body["type"], "about:blank", "{what}");
    if answer.header("idempotent-replayed") != "true" {
        assert_eq!(body["request_id"], answer.header("x-request-id"), "{what}");
    }
    let transient = answer.status == 429 || answer.status >= 500;
    assert_eq!(answer.header("transient-error"), if transient { "true" } else { "" }, "{what}");
    let in_flight = body["code"] == "idempotency_key_in_flight";
    let retry = matches!(answer.status, 429 | 503) || in_flight;
    assert_eq!(answer.headers.contains_key("retry-after"), retry, "{what}");
    let fields = body["errors"].as_array().into_iter().flatten();
    for field in fields {
        let sentence =
            format!("{} {}", field["field"].as_str().unwrap_or(""), field["message"].as_str().unwrap_or(""));
        assert!(body["detail"].as_str().is_some_and(|detail| detail.contains(&sentence)), "{sentence}: {what}");
    }
}

/// What a schema is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Requests may spell countries in two letters, which answers never do.
    Request,
    Answer,
}

/// Asserts that a value fits a schema of the document.
pub fn assert_fits(side: Side, schema: &Value, value: &Value, what: &str) {
    static KNOWN: Mutex<Option<HashMap<String, Arc<Validator>>>> = Mutex::new(None);
    let name = format!("{side:?} {schema}");
    let mut known = KNOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let validator = known.get_or_insert_default().entry(name).or_insert_with(|| Arc::new(validator(side, schema)));
    let validator = Arc::clone(validator);
    drop(known);
    let faults: Vec<_> =
        validator.iter_errors(value).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
    assert!(faults.is_empty(), "{faults:?} in {what}");
}

fn validator(side: Side, schema: &Value) -> Validator {
    let components = if side == Side::Answer { &CLOSED } else { &DOCUMENT["components"] };
    let mut whole = schema.clone();
    whole["components"] = components.clone();
    let alpha =
        |length: usize, text: &str| text.len() == length && text.bytes().all(|byte| byte.is_ascii_uppercase());
    jsonschema::draft202012::options()
        .should_validate_formats(true)
        .with_format("decimal", |text| cuenta_money::DecimalText::parse(text).is_ok())
        .with_format("iso-4217", move |text| alpha(3, text))
        .with_format("iso-3166-1-alpha-3", move |text| alpha(3, text) || side == Side::Request && alpha(2, text))
        .with_format("iso-3166-1-alpha-2", move |text| alpha(2, text))
        .build(&whole)
        .unwrap_or_else(|error| panic!("{schema}: {error}"))
}
