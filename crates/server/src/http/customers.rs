//! `/customers` (contract section 5).

use super::call::Call;
use axum::response::Response;
use cuenta_engine::customers::{self, CreateConnectedAccount, CreateCustomer, ListCustomers, UpdateCustomer};
use cuenta_engine::pages::{Query, QueryReader, no_parameters};
use cuenta_engine::{Error, entitlements, payment_methods};
use serde::Serialize;

/// `customers.lookup` answers the id alone.
#[derive(Serialize)]
struct CustomerLookup {
    customer_id: String,
}

fn no_customer() -> Error {
    Error::not_found("customer_not_found", "There is no customer with this id, alias or external id")
}

fn no_connected_account() -> Error {
    Error::not_found("connected_account_not_found", "There is no such customer, or it has no such connected account")
}

pub(super) async fn list(call: Call) -> Response {
    call.read(ListCustomers::read, customers::list).await
}

pub(super) async fn create(call: Call) -> Response {
    call.write(CreateCustomer::read, customers::create).await
}

pub(super) async fn lookup(call: Call) -> Response {
    let alias = |query: &Query| {
        let mut reader = QueryReader::new(query);
        let alias = reader.required("alias").map(str::to_owned);
        reader.finish().map(|()| alias.unwrap_or_default())
    };
    call.read(alias, |scope, alias: &String| {
        let customer_id = customers::lookup(scope, alias)?.ok_or_else(no_customer)?;
        Ok(CustomerLookup { customer_id })
    })
    .await
}

pub(super) async fn get(call: Call) -> Response {
    let name = call.segment(1);
    call.read(no_parameters, move |scope, ()| customers::find(scope, &name)?.ok_or_else(no_customer)).await
}

pub(super) async fn update(call: Call) -> Response {
    let name = call.segment(1);
    call.write(UpdateCustomer::read, move |scope, input| {
        customers::update(scope, &name, input)?.ok_or_else(no_customer)
    })
    .await
}

pub(super) async fn list_connected_accounts(call: Call) -> Response {
    let name = call.segment(1);
    call.read(no_parameters, move |scope, ()| {
        customers::list_connected_accounts(scope, &name)?.ok_or_else(no_customer)
    })
    .await
}

pub(super) async fn create_connected_account(call: Call) -> Response {
    let name = call.segment(1);
    call.write(CreateConnectedAccount::read, move |scope, input| {
        customers::create_connected_account(scope, &name, input)?.ok_or_else(no_customer)
    })
    .await
}

pub(super) async fn delete_connected_account(call: Call) -> Response {
    let (name, id) = (call.segment(1), call.segment(3));
    call.delete(move |scope| customers::delete_connected_account(scope, &name, &id)?.ok_or_else(no_connected_account))
        .await
}

pub(super) async fn list_entitlements(call: Call) -> Response {
    let name = call.segment(1);
    call.read(no_parameters, move |scope, ()| entitlements::list_of_customer(scope, &name)?.ok_or_else(no_customer))
        .await
}

pub(super) async fn list_payment_methods(call: Call) -> Response {
    let name = call.segment(1);
    call.read(no_parameters, move |scope, ()| {
        payment_methods::list_of_customer(scope, &name)?.ok_or_else(no_customer)
    })
    .await
}
