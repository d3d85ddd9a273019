//! Query strings: any pairs become a list's wishes or a refusal that names a parameter.
#![no_main]

use cuenta_engine::customers::ListCustomers;
use cuenta_engine::integrations::ListIntegrations;
use cuenta_engine::pages::Query;
use cuenta_engine::tags::ListTags;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let pairs = text.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let query = Query(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect());
    let refusals =
        [ListCustomers::read(&query).err(), ListTags::read(&query).err(), ListIntegrations::read(&query).err()];
    for refusal in refusals.into_iter().flatten() {
        assert!(!refusal.fields().is_empty(), "refused without a reason");
    }
});
