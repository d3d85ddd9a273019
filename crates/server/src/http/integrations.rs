//! `/integrations` (contract section 19; creating is an extension).

use super::call::Call;
use axum::response::Response;
use cuenta_engine::Error;
use cuenta_engine::integrations::{self, CreateIntegration, ListIntegrations};
use cuenta_engine::pages::no_parameters;

pub(super) async fn list(call: Call) -> Response {
    call.read(ListIntegrations::read, integrations::list).await
}

pub(super) async fn create(call: Call) -> Response {
    call.write(CreateIntegration::read, integrations::create).await
}

pub(super) async fn get(call: Call) -> Response {
    let id = call.segment(1);
    let none = || Error::not_found("integration_not_found", "There is no integration with this id");
    call.read(no_parameters, move |scope, ()| integrations::get(scope, &id)?.ok_or_else(none)).await
}
