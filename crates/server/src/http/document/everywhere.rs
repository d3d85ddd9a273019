//! What holds in many places of the document and is said once.
//!
//! The member `everywhere` of the extensions is not served. It says once what holds for many places, each time as a
//! default that the place itself may override:
//!
//! | Key | Merged under |
//! |---|---|
//! | `operation` | every operation that needs an API key |
//! | `keyed_operation` | those of them that take an `Idempotency-Key` |
//! | `answer` | every response of these operations, and the shared responses |
//! | `keyed_answer` | the responses of keyed operations, and the shared responses |
//! | `query` | the query parameter of that name |
//! | `request_object` | every shape with properties that a request can carry |
//! | `request_property` | the property of that name in such a shape |
//! | `request_format` | every schema of that format in such a shape or in a parameter |
//! | `response_format` | every schema of that format elsewhere |
//!
//! A shape that requests and responses share counts as a request's.

use serde_json::Value;

use super::merge::underlay;
use super::{elements, elements_mut, members_mut, object_mut, reachable};

/// Completes a document that contract and extensions make together.
pub(super) fn complete(document: &mut Value, everywhere: &Value) {
    complete_operations(document, everywhere);
    complete_schemas(document, everywhere);
}

fn complete_operations(document: &mut Value, everywhere: &Value) {
    for item in members_mut(&mut document["paths"]) {
        for operation in members_mut(item).filter(|operation| needs_key(operation)) {
            let keyed = takes_idempotency_key(operation);
            underlay(operation, &everywhere["operation"]);
            if keyed {
                underlay(operation, &everywhere["keyed_operation"]);
            }
            for parameter in elements_mut(operation.get_mut("parameters")) {
                complete_query(parameter, &everywhere["query"]);
            }
            for response in members_mut(&mut operation["responses"]) {
                complete_response(response, everywhere, keyed);
            }
        }
    }
    for response in members_mut(&mut document["components"]["responses"]) {
        complete_response(response, everywhere, true);
    }
}

/// `security: []` marks the operations that anyone may call: this document and its page.
pub(super) fn needs_key(operation: &Value) -> bool {
    operation.get("security") != Some(&Value::Array(Vec::new()))
}

fn takes_idempotency_key(operation: &Value) -> bool {
    elements(operation.get("parameters"))
        .any(|parameter| parameter["$ref"] == "#/components/parameters/IdempotencyKey")
}

fn complete_query(parameter: &mut Value, defaults: &Value) {
    if parameter["in"] == "query"
        && let Some(default) = parameter["name"].as_str().and_then(|name| defaults.get(name))
    {
        underlay(parameter, default);
    }
}

/// A response that is a reference is completed where it is defined.
fn complete_response(response: &mut Value, everywhere: &Value, keyed: bool) {
    if response.get("$ref").is_some() {
        return;
    }
    underlay(response, &everywhere["answer"]);
    if keyed {
        underlay(response, &everywhere["keyed_answer"]);
    }
}

fn complete_schemas(document: &mut Value, everywhere: &Value) {
    let mut bodies = Vec::new();
    for item in members_mut(&mut document["paths"]) {
        for operation in members_mut(item) {
            bodies.extend(operation.get("requestBody").cloned());
            for parameter in elements_mut(operation.get_mut("parameters")) {
                complete_formats(parameter, &everywhere["request_format"]);
            }
        }
    }
    let requests = reachable(&document["components"], &Value::Array(bodies));
    for (name, schema) in object_mut(&mut document["components"]["schemas"]) {
        if requests.contains(&format!("schemas/{name}")) {
            complete_request_schema(schema, everywhere);
            complete_formats(schema, &everywhere["request_format"]);
        } else {
            complete_formats(schema, &everywhere["response_format"]);
        }
    }
}

fn complete_request_schema(schema: &mut Value, everywhere: &Value) {
    if schema.get("properties").is_none() {
        return;
    }
    underlay(schema, &everywhere["request_object"]);
    for (name, property) in object_mut(&mut schema["properties"]) {
        if let Some(default) = everywhere["request_property"].get(name) {
            underlay(property, default);
        }
    }
}

fn complete_formats(value: &mut Value, defaults: &Value) {
    let format = value.get("format").and_then(Value::as_str).unwrap_or_default();
    if let Some(default) = defaults.get(format) {
        underlay(value, default);
    }
    match value {
        Value::Object(object) => object.values_mut().for_each(|member| complete_formats(member, defaults)),
        Value::Array(array) => array.iter_mut().for_each(|element| complete_formats(element, defaults)),
        _ => {}
    }
}
