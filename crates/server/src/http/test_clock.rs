//! `/test-clock` (extension): the clock of a sandbox.

use super::call::Call;
use axum::response::Response;
use cuenta_engine::pages::no_parameters;
use cuenta_engine::test_clock::{self, AdvanceTestClock};

pub(super) async fn get(call: Call) -> Response {
    call.read(no_parameters, |scope, ()| test_clock::get(scope)).await
}

pub(super) async fn advance(call: Call) -> Response {
    call.write(AdvanceTestClock::read, test_clock::advance).await
}
