//! Inputs: any JSON becomes an input or at least one named problem.
#![no_main]

use cuenta_engine::customers::{CreateConnectedAccount, CreateCustomer, UpdateCustomer};
use cuenta_engine::input::{self, Fields, UnknownProperties};
use cuenta_engine::json::{self, Json};
use cuenta_engine::tags::CreateTag;
use cuenta_engine::test_clock::AdvanceTestClock;
use libfuzzer_sys::fuzz_target;

fn read<T>(body: &Json, reader: impl Fn(&mut Fields<'_>) -> Option<T>) {
    if let Err(problems) = input::read(body, UnknownProperties::Refuse, reader) {
        assert!(!problems.is_empty(), "refused without a reason");
        assert!(problems.detail().starts_with("Validation failed: "));
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(body) = json::parse(bytes) else { return };
    read(&body, CreateCustomer::read);
    read(&body, UpdateCustomer::read);
    read(&body, CreateConnectedAccount::read);
    read(&body, CreateTag::read);
    read(&body, AdvanceTestClock::read);
});
