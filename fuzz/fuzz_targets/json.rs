//! Bodies: what is accepted is JSON to another reader too, and its forms are stable.
#![no_main]

use cuenta_engine::json;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(read) = json::parse(bytes) else { return };
    assert!(serde_json::from_slice::<&serde_json::value::RawValue>(bytes).is_ok(), "only this reader takes it");
    let printed = read.to_string();
    assert_eq!(json::parse(printed.as_bytes()).as_ref(), Ok(&read), "printing changed it");
    let mut canonical = Vec::new();
    read.canonical(&mut canonical);
    let mut again = Vec::new();
    json::parse(&canonical).expect("the canonical form is JSON").canonical(&mut again);
    assert_eq!(canonical, again, "the canonical form has another one");
});
