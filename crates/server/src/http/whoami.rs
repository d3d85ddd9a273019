//! `/whoami` (extension): what a key opens. It asks no database beyond the key's own check.

use super::call::Call;
use super::problem::answer;
use axum::http::StatusCode;
use axum::response::Response;
use cuenta_engine::Access;
use serde::Serialize;

#[derive(Serialize)]
struct WhoAmI<'caller> {
    organization_id: &'caller str,
    key_id: &'caller str,
    scope: &'static str,
    is_sandbox: bool,
}

pub(super) async fn get(call: Call) -> Response {
    let caller = call.caller();
    let scope = if caller.access == Access::Full { "full" } else { "read" };
    let (organization_id, key_id) = (&*caller.organization_id, &*caller.key_id);
    let content = WhoAmI { organization_id, key_id, scope, is_sandbox: caller.is_sandbox };
    answer(StatusCode::OK, serde_json::to_vec(&content).unwrap_or_default())
}
