//! Every path of the API, and what it leads to.

use super::call::Call;
use super::gate::{self, NoRoute};
use super::problem::refuse_early;
use super::state::Shared;
use super::{customers, docs, integrations, tags, test_clock, whoami};
use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use std::sync::LazyLock;

/// The operations that are served, by method and path of the contract and of our extensions. A test holds this list, the
/// router and the document together.
pub const OPERATIONS: &[(&str, &str)] = &[
    ("GET", "/customers"),
    ("POST", "/customers"),
    ("GET", "/customers/lookup"),
    ("GET", "/customers/{id}"),
    ("PATCH", "/customers/{id}"),
    ("GET", "/customers/{id}/connected-accounts"),
    ("POST", "/customers/{id}/connected-accounts"),
    ("DELETE", "/customers/{id}/connected-accounts/{connected_account_id}"),
    ("GET", "/customers/{id}/entitlements"),
    ("GET", "/customers/{id}/payment-methods"),
    ("GET", "/integrations"),
    ("POST", "/integrations"),
    ("GET", "/integrations/{id}"),
    ("GET", "/tags"),
    ("POST", "/tags"),
    ("GET", "/tags/{id}"),
    ("GET", "/test-clock"),
    ("POST", "/test-clock/advance"),
    ("GET", "/whoami"),
    ("GET", "/openapi.json"),
    ("GET", "/docs"),
];

/// The API behind its gate.
pub fn router(server: Shared) -> Router {
    let routes: Router<Shared> = Router::new()
        .route("/customers", get(customers::list).post(customers::create))
        .route("/customers/lookup", get(customers::lookup))
        .route("/customers/{id}", get(customers::get).patch(customers::update))
        .route(
            "/customers/{id}/connected-accounts",
            get(customers::list_connected_accounts).post(customers::create_connected_account),
        )
        .route(
            "/customers/{id}/connected-accounts/{connected_account_id}",
            delete(customers::delete_connected_account),
        )
        .route("/customers/{id}/entitlements", get(customers::list_entitlements))
        .route("/customers/{id}/payment-methods", get(customers::list_payment_methods))
        .route("/integrations", get(integrations::list).post(integrations::create))
        .route("/integrations/{id}", get(integrations::get))
        .route("/tags", get(tags::list).post(tags::create))
        .route("/tags/{id}", get(tags::get))
        .route("/test-clock", get(test_clock::get))
        .route("/test-clock/advance", post(test_clock::advance))
        .route("/whoami", get(whoami::get))
        .route("/openapi.json", get(openapi))
        .merge(docs::routes())
        .fallback(no_route)
        .method_not_allowed_fallback(no_method);
    routes.layer(middleware::from_fn_with_state(server.clone(), gate::pass)).with_state(server)
}

/// The document at `/openapi.json`, made when it is first asked for.
pub fn document() -> &'static [u8] {
    static DOCUMENT: LazyLock<Vec<u8>> =
        LazyLock::new(|| serde_json::to_vec(&super::document::document(OPERATIONS)).unwrap_or_default());
    &DOCUMENT
}

async fn openapi() -> Response {
    let json = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, json)], document()).into_response()
}

async fn no_route(call: Call) -> Response {
    let request_id = &call.caller().request_id;
    let detail = "There is no such path; /openapi.json lists all operations, /docs shows them";
    let mut response = refuse_early(StatusCode::NOT_FOUND, "no_such_path", detail, request_id);
    response.extensions_mut().insert(NoRoute);
    response
}

/// The router adds `Allow`.
async fn no_method(request: Request) -> Response {
    let admitted = request.extensions().get::<gate::Admitted>();
    let request_id = admitted.map_or("", |admitted| &*admitted.caller.request_id);
    let detail = "This path does not have this method; the header Allow lists those it has";
    let mut response = refuse_early(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail, request_id);
    response.extensions_mut().insert(NoRoute);
    response
}
