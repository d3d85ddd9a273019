//! Three organizations on one database, and the shortest ways to do things for them.

use crate::place::{Place, check_places};
use cuenta_engine::customers::{self, CreateCustomer, Customer, UpdateCustomer};
use cuenta_engine::input::{self, Fields, UnknownProperties};
use cuenta_engine::integrations::{self, CreateIntegration};
use cuenta_engine::organizations::{self, CreateOrganization, OrganizationKind};
use cuenta_engine::pages::Query;
use cuenta_engine::tags::{self, CreateTag};
use cuenta_engine::{Access, Caller, Error, Kind, MIGRATIONS, Scope, audit, consistency};
use cuenta_store::{Database, Parameter, Transaction};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

/// A database with three organizations.
pub struct World {
    pub database: Database,
    /// A live organization.
    pub here: Caller,
    /// Another live one, that must see nothing of the first.
    pub there: Caller,
    /// One whose clock the test moves.
    pub sandbox: Caller,
}

/// Runs a story on both databases. Whatever the story did, the rules between tables hold at its end and the audit log is
/// sound.
pub fn check(story: impl AsyncFn(&World)) {
    check_places(MIGRATIONS, async |place| {
        let world = World::new(place).await;
        story(&world).await;
        world.assert_consistent().await;
        world.seal_all().await;
        assert_eq!(world.verify().await.faults, Vec::<String>::new());
    });
}

impl World {
    pub async fn new(place: &Place) -> Self {
        let database = place.open();
        let made = database.write(|transaction| {
            let kinds = [OrganizationKind::Live, OrganizationKind::Live, OrganizationKind::Sandbox];
            kinds.into_iter().map(|kind| organizations::create(transaction, &organization(kind))).collect()
        });
        let made: Vec<organizations::Organization> = made.await.expect("organizations are made");
        let caller = |at: usize| Caller {
            organization_id: made[at].id.as_str().into(),
            key_id: "key_of_the_test".into(),
            access: Access::Full,
            is_sandbox: made[at].kind == OrganizationKind::Sandbox,
            request_id: "req_of_the_test".into(),
        };
        World { here: caller(0), there: caller(1), sandbox: caller(2), database }
    }

    /// One write of this caller.
    pub async fn write<T: Send + 'static>(
        &self,
        caller: &Caller,
        mut work: impl FnMut(&mut Scope) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let caller = caller.clone();
        self.database.write(move |transaction| work(&mut Scope::open(transaction, &caller)?)).await
    }

    /// One read of this caller.
    pub async fn read<T: Send + 'static>(
        &self,
        caller: &Caller,
        mut work: impl FnMut(&mut Scope) -> Result<T, Error> + Send + 'static,
    ) -> T {
        let caller = caller.clone();
        let read = self.database.read(move |transaction| work(&mut Scope::open(transaction, &caller)?));
        read.await.expect("the read succeeds")
    }

    /// A statement past the engine.
    pub async fn sql(&self, sql: &'static str, parameters: &[Parameter<'static>]) {
        let parameters = parameters.to_vec();
        let wrote = self.database.write(move |transaction| transaction.execute(sql, &parameters)).await;
        wrote.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// A whole number of the database.
    pub async fn number(&self, sql: &'static str) -> i64 {
        let read = self.database.read(move |transaction| transaction.one(sql, &[])?.integer("number"));
        read.await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub async fn create(&self, caller: &Caller, body: Value) -> Result<Customer, Error> {
        let input = read(body, CreateCustomer::read);
        self.write(caller, move |scope| customers::create(scope, &input)).await
    }

    /// A customer with this name and these aliases.
    pub async fn customer(&self, caller: &Caller, name: &str, aliases: &[&str]) -> Customer {
        let body = json!({"name": name, "currency": "USD", "aliases": aliases});
        self.create(caller, body).await.expect("the customer is made")
    }

    pub async fn update(&self, caller: &Caller, name: &str, body: Value) -> Result<Option<Customer>, Error> {
        let (input, name) = (read(body, UpdateCustomer::read), name.to_owned());
        self.write(caller, move |scope| customers::update(scope, &name, &input)).await
    }

    /// The customer that this name means.
    pub async fn find(&self, caller: &Caller, name: &str) -> Option<Customer> {
        let name = name.to_owned();
        self.read(caller, move |scope| {
            let found = customers::find(scope, &name)?;
            // The two ways to look a name up must never disagree.
            assert_eq!(customers::lookup(scope, &name)?, found.as_ref().map(|found| found.id.clone()));
            Ok(found)
        })
        .await
    }

    pub async fn tag(&self, caller: &Caller, name: &str, kinds: &[&str]) -> String {
        let input = read(json!({"name": name, "color": "#00aa00", "entity_types": kinds}), CreateTag::read);
        self.write(caller, move |scope| tags::create(scope, &input)).await.expect("the tag is made").id
    }

    pub async fn integration(&self, caller: &Caller, provider: &str) -> String {
        let input = read(json!({"provider": provider}), CreateIntegration::read);
        self.write(caller, move |scope| integrations::create(scope, &input)).await.expect("it is made").id
    }

    /// A subscription past the engine, which makes none yet.
    pub async fn subscription(&self, customer: &Customer, status: &'static str) -> String {
        let id = format!("sub_{}{status}", &customer.id[5..]);
        let sql = "INSERT INTO subscriptions (organization_id, id, customer_id, status, created_at) \
                   SELECT organization_id, :id, id, :status, created_at FROM customers WHERE id = :customer_id";
        let customer_id = customer.id.as_str().into();
        self.sql(sql, &[("id", id.as_str().into()), ("status", status.into()), ("customer_id", customer_id)]).await;
        id
    }

    /// What breaks the rules between tables, by rule.
    pub async fn faults(&self) -> Faults {
        self.database.read(faults).await.expect("the checks run")
    }

    /// What `look` finds when the statement has been run past the engine; the statement is undone again.
    pub async fn as_if<T: Clone + Send + 'static>(
        &self,
        sql: &'static str,
        mut look: impl FnMut(&mut Transaction) -> Result<T, Error> + Send + 'static,
    ) -> T {
        let found = Arc::new(Mutex::new(None));
        let finding = Arc::clone(&found);
        let undone = self.database.write(move |transaction| {
            transaction.execute(sql, &[])?;
            *finding.lock().expect("the lock is sound") = Some(look(transaction)?);
            Err::<(), _>(Error::refused_state("undone", "only a thought"))
        });
        let undone = undone.await.expect_err("it ends with a refusal");
        assert_eq!(undone.code(), "undone", "{sql}: {undone:?}");
        found.lock().expect("the lock is sound").clone().expect("it was looked at")
    }

    pub async fn assert_consistent(&self) {
        assert_eq!(self.faults().await, []);
    }

    /// Seals until nothing is left, and says how many entries were sealed.
    pub async fn seal_all(&self) -> i64 {
        let mut sealed = 0;
        loop {
            match self.database.write(audit::seal).await.expect("sealing succeeds") {
                0 => return sealed,
                more => sealed += more,
            }
        }
    }

    /// Recomputes the whole chain.
    pub async fn verify(&self) -> audit::Report {
        self.database.read(verify).await.expect("verifying succeeds")
    }

    /// The operations and objects in the audit log, in the order they were written.
    pub async fn audited(&self) -> Vec<(String, String, String)> {
        let read = self.database.read(|transaction: &mut Transaction| {
            let sql = "SELECT operation, object_id, properties FROM audit_entries ORDER BY lane, position";
            let rows = transaction.all(sql, &[])?;
            let read = |mut row: cuenta_store::Row| {
                Ok((row.text("operation")?, row.text("object_id")?, row.text("properties")?))
            };
            rows.into_iter().map(read).collect::<Result<_, cuenta_store::Error>>()
        });
        read.await.expect("the log is readable")
    }
}

/// The names of rules that are broken, each with what breaks it.
type Faults = Vec<(&'static str, Vec<String>)>;

pub fn faults(transaction: &mut Transaction) -> Result<Faults, Error> {
    let mut faults = Vec::new();
    for check in consistency::CHECKS {
        let found = consistency::run(transaction, check)?;
        if !found.is_empty() {
            faults.push((check.name, found));
        }
    }
    Ok(faults)
}

pub fn verify(transaction: &mut Transaction) -> Result<audit::Report, Error> {
    let (mut report, mut number) = (audit::Report::default(), 0);
    while let Some(next) = audit::verify(transaction, number, &mut report)? {
        number = next;
    }
    Ok(report)
}

pub fn organization(kind: OrganizationKind) -> CreateOrganization {
    CreateOrganization {
        name: "Test".to_owned(),
        kind,
        default_currency: cuenta_money::Currency::parse("USD").expect("a currency"),
        timezone: "UTC".to_owned(),
    }
}

/// Reads a body that is well-formed.
pub fn read<T>(body: Value, reader: impl Fn(&mut Fields<'_>) -> Option<T>) -> T {
    try_read(&body, reader).unwrap_or_else(|problem| panic!("{body}: {problem}"))
}

/// Reads a body, or says what is wrong with it.
pub fn try_read<T>(body: &Value, reader: impl Fn(&mut Fields<'_>) -> Option<T>) -> Result<T, String> {
    let parsed = cuenta_engine::json::parse(body.to_string().as_bytes()).expect("it is JSON");
    input::read(&parsed, UnknownProperties::Refuse, reader).map_err(|problems| problems.detail())
}

pub fn query(text: &str) -> Query {
    let pairs =
        text.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    Query(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// Asserts what an error tells: its kind, its code, the property at fault, and words of its message.
#[track_caller]
pub fn assert_refused<T: std::fmt::Debug>(
    result: Result<T, Error>,
    kind: Kind,
    code: &str,
    field: &str,
    words: &str,
) {
    let error = result.expect_err("it is refused");
    let fields: Vec<_> = error.fields().iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!((error.kind(), error.code(), fields.join(",").as_str()), (kind, code, field), "{error:?}");
    assert!(error.message().contains(words), "{}", error.message());
}
