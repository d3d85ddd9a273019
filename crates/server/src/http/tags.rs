//! `/tags` (contract section 19; creating is an extension).

use super::call::Call;
use axum::response::Response;
use cuenta_engine::Error;
use cuenta_engine::pages::no_parameters;
use cuenta_engine::tags::{self, CreateTag, ListTags};

pub(super) async fn list(call: Call) -> Response {
    call.read(ListTags::read, tags::list).await
}

pub(super) async fn create(call: Call) -> Response {
    call.write(CreateTag::read, tags::create).await
}

pub(super) async fn get(call: Call) -> Response {
    let id = call.segment(1);
    let none = || Error::not_found("tag_not_found", "There is no tag with this id");
    call.read(no_parameters, move |scope, ()| tags::get(scope, &id)?.ok_or_else(none)).await
}
