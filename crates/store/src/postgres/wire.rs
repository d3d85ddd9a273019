//! What travels between a closure and PostgreSQL: values, statements that wait, and the messages they are joined into.

use crate::Error;
use crate::value::{Row, Value};
use futures_util::future::LocalBoxFuture;
use std::sync::Arc;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

type BoxError = Box<dyn std::error::Error + Sync + Send>;

impl ToSql for Value {
    fn to_sql(&self, kind: &Type, out: &mut tokio_postgres::types::private::BytesMut) -> Result<IsNull, BoxError> {
        match self {
            Value::Null => Ok(IsNull::Yes),
            Value::Integer(number) if *kind == Type::INT4 => i32::try_from(*number)?.to_sql(kind, out),
            Value::Integer(number) => number.to_sql(kind, out),
            Value::Text(text) => text.as_str().to_sql(kind, out),
            Value::Bytes(bytes) => bytes.as_slice().to_sql(kind, out),
            Value::Flag(flag) => flag.to_sql(kind, out),
            Value::List(texts) => texts.to_sql(kind, out),
        }
    }

    fn accepts(_kind: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl<'row> FromSql<'row> for Value {
    fn from_sql(kind: &Type, raw: &'row [u8]) -> Result<Self, BoxError> {
        match *kind {
            Type::INT8 => i64::from_sql(kind, raw).map(Value::Integer),
            Type::INT4 => i32::from_sql(kind, raw).map(|number| Value::Integer(number.into())),
            Type::BOOL => bool::from_sql(kind, raw).map(Value::Flag),
            Type::BYTEA => Vec::from_sql(kind, raw).map(Value::Bytes),
            _ => String::from_sql(kind, raw).map(Value::Text),
        }
    }

    fn from_sql_null(_kind: &Type) -> Result<Self, BoxError> {
        Ok(Value::Null)
    }

    fn accepts(kind: &Type) -> bool {
        matches!(*kind, Type::INT8 | Type::INT4 | Type::BOOL | Type::BYTEA | Type::TEXT | Type::VARCHAR | Type::NAME)
    }
}

/// Translates an error of the server or of the connection to it.
pub(crate) fn failure(error: &tokio_postgres::Error) -> Error {
    let Some(detail) = error.as_db_error() else {
        return if error.is_closed() || std::error::Error::source(error).is_some_and(|s| s.is::<std::io::Error>()) {
            Error::Unavailable(format!("the connection to PostgreSQL was lost: {error}"))
        } else {
            Error::Internal(error.to_string())
        };
    };
    let text = format!("{} ({})", detail.message(), detail.code().code());
    match detail.code().code() {
        "23505" | "23514" | "23P01" => Error::Constraint(detail.constraint().unwrap_or("unnamed").to_owned()),
        "23503" => Error::Constraint("foreign_key".to_owned()),
        "40001" | "40P01" | "55P03" => Error::Conflict(text),
        // An operator ended it, resources are used up, the disk is full, or the server only reads.
        code if ["57P", "53", "58", "08", "25006", "57014", "XX001"].iter().any(|start| code.starts_with(start)) => {
            Error::Unavailable(text)
        }
        _ => Error::Internal(text),
    }
}

pub(super) struct Prepared {
    pub(super) statement: tokio_postgres::Statement,
    pub(super) names: Vec<String>,
    pub(super) columns: Arc<[String]>,
    /// The same statement for many rows at once, where its form allows it.
    pub(super) many: Option<tokio_postgres::Statement>,
}

/// What waits to be sent.
pub(super) enum Pending {
    Control(&'static str),
    Claim { job: usize, name: i64 },
    Statement { job: usize, prepared: Arc<Prepared>, values: Vec<Value>, otherwise: Option<&'static str> },
}

/// A statement with its values.
pub(super) struct Question {
    pub(super) prepared: Arc<Prepared>,
    pub(super) values: Vec<Value>,
}

impl Question {
    pub(super) fn ask<'q>(
        &'q self,
        client: &'q Client,
    ) -> Started<'q, Result<Vec<tokio_postgres::Row>, tokio_postgres::Error>> {
        let values: Vec<&(dyn ToSql + Sync)> = self.values.iter().map(|value| value as _).collect();
        Started::Waiting(Box::pin(async move { client.query(&self.prepared.statement, &values).await }))
    }

    pub(super) fn rows(&self, rows: &[tokio_postgres::Row]) -> Result<Vec<Row>, Error> {
        rows.iter().map(|row| read_row(row, &self.prepared.columns)).collect()
    }
}

/// The message of an error with its causes, for people.
pub(super) fn plain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

fn read_row(row: &tokio_postgres::Row, columns: &Arc<[String]>) -> Result<Row, Error> {
    let values = (0..row.len()).map(|at| row.try_get::<_, Value>(at).map_err(|error| Error::Internal(plain(&error))));
    Ok(Row::new(Arc::clone(columns), values.collect::<Result<_, _>>()?))
}

/// One message to the server, and the closure it belongs to where that is one alone.
pub(super) struct Parcel {
    pub(super) job: Option<usize>,
    content: Content,
}

enum Content {
    Control(&'static str),
    Claims(Vec<i64>),
    One { prepared: Arc<Prepared>, values: Vec<Value>, otherwise: Option<&'static str> },
    Many { prepared: Arc<Prepared>, columns: Vec<Vec<Value>> },
}

pub(super) fn alone(pending: Pending) -> Parcel {
    match pending {
        Pending::Control(sql) => Parcel { job: None, content: Content::Control(sql) },
        Pending::Claim { job, name } => Parcel { job: Some(job), content: Content::Claims(vec![name]) },
        Pending::Statement { job, prepared, values, otherwise } => {
            Parcel { job: Some(job), content: Content::One { prepared, values, otherwise } }
        }
    }
}

/// Joins plain inserts of the same text, and claims. An insert may move ahead of inserts into other tables, never
/// across a statement of another kind.
pub(super) fn merge(pending: Vec<Pending>) -> Vec<Parcel> {
    let mut parcels: Vec<Parcel> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    let mut claims: Option<usize> = None;
    for item in pending {
        match item {
            Pending::Claim { name, .. } if claims.is_some() => {
                if let Some(Content::Claims(names)) =
                    claims.and_then(|at| parcels.get_mut(at)).map(|parcel| &mut parcel.content)
                {
                    names.push(name);
                }
            }
            Pending::Claim { .. } => {
                claims = Some(parcels.len());
                parcels.push(Parcel { job: None, ..alone(item) });
            }
            Pending::Statement { prepared, values, otherwise: None, .. } if prepared.many.is_some() => {
                let joined = open.iter().copied().find(|at| is_same(parcels.get(*at), &prepared));
                match joined.and_then(|at| parcels.get_mut(at)).map(|parcel| &mut parcel.content) {
                    Some(Content::Many { columns, .. }) => {
                        columns.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
                    }
                    _ => {
                        open.push(parcels.len());
                        let columns = values.into_iter().map(|value| vec![value]).collect();
                        parcels.push(Parcel { job: None, content: Content::Many { prepared, columns } });
                    }
                }
            }
            other => {
                open.clear();
                parcels.push(alone(other));
            }
        }
    }
    parcels
}

fn is_same(parcel: Option<&Parcel>, wanted: &Arc<Prepared>) -> bool {
    matches!(parcel, Some(Parcel { content: Content::Many { prepared, .. }, .. }) if Arc::ptr_eq(prepared, wanted))
}

/// A request under way: polled once it is on the wire, and its answer may be there already.
pub(super) enum Started<'parcel, T> {
    Waiting(LocalBoxFuture<'parcel, T>),
    Ready(T),
}

impl<T> Started<'_, T> {
    /// Puts the request on the wire.
    pub(super) fn poll_once(&mut self, context: &mut std::task::Context) {
        if let Started::Waiting(future) = self
            && let std::task::Poll::Ready(answer) = future.as_mut().poll(context)
        {
            *self = Started::Ready(answer);
        }
    }

    pub(super) async fn finish(self) -> T {
        match self {
            Started::Waiting(future) => future.await,
            Started::Ready(answer) => answer,
        }
    }
}

impl Parcel {
    pub(super) fn send<'parcel>(&'parcel self, client: &'parcel Client) -> Started<'parcel, Result<(), Error>> {
        Started::Waiting(match &self.content {
            Content::Control(sql) => {
                Box::pin(async move { client.batch_execute(sql).await.map_err(|error| failure(&error)) })
            }
            Content::Claims(names) => Box::pin(take_claims(client, names)),
            Content::One { prepared, values, otherwise } => Box::pin(async move {
                let values = values.iter().map(|value| value as &(dyn ToSql + Sync));
                let rows = client.execute_raw(&prepared.statement, values).await.map_err(|error| failure(&error))?;
                match otherwise {
                    Some(name) if rows != 1 => Err(Error::Constraint((*name).to_owned())),
                    _ => Ok(()),
                }
            }),
            Content::Many { prepared, columns } => Box::pin(async move {
                let statement = prepared.many.as_ref().unwrap_or(&prepared.statement);
                let columns = columns.iter().map(|column| column as &(dyn ToSql + Sync));
                client.execute_raw(statement, columns).await.map(|_| ()).map_err(|error| failure(&error))
            }),
        })
    }
}

/// Takes all names or fails the transaction: what is sent behind it must not run, it could wait for the one that holds
/// a name.
async fn take_claims(client: &Client, names: &[i64]) -> Result<(), Error> {
    let sql = "SELECT 1 / CASE WHEN bool_and(pg_try_advisory_xact_lock(name)) THEN 1 ELSE 0 END \
               FROM UNNEST($1::bigint[]) AS name";
    match client.query_typed(sql, &[(&names, Type::INT8_ARRAY)]).await {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some(&SqlState::DIVISION_BY_ZERO) => Err(Error::Claimed),
        Err(error) => Err(failure(&error)),
    }
}
