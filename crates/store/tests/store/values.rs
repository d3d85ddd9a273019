//! The five verbs, and what every column kind keeps.

use crate::{check, insert};
use cuenta_store::{Error, Parameter, Row, Value};

#[test]
fn the_five_verbs() {
    check(async |database, _| {
        let wrote = database.write(|transaction| {
            for id in ["a", "b", "c"] {
                insert(transaction, id)?;
            }
            let id = |id: &'static str| [("id", id.into())];
            transaction.execute("UPDATE things SET amount = 7 WHERE id <> :id", &id("a"))?;
            assert!(transaction.exists("SELECT 1 AS found FROM things WHERE id = :id", &id("a"))?);
            assert!(!transaction.exists("SELECT 1 AS found FROM things WHERE id = :id", &id("z"))?);
            let sum = "SELECT CAST(SUM(amount) AS BIGINT) AS sum, COUNT(*) AS rows FROM things";
            let mut row = transaction.one(sum, &[])?;
            assert_eq!((row.integer("sum")?, row.integer("rows")?), (14, 3));
            assert!(transaction.optional("SELECT id FROM things WHERE id = :id", &id("z"))?.is_none());
            let all = transaction.all("SELECT id FROM things ORDER BY id DESC LIMIT :most", &[("most", 2.into())])?;
            let all: Vec<_> = all.into_iter().map(|mut row| row.text("id")).collect::<Result<_, _>>()?;
            assert_eq!(all, ["c", "b"]);
            transaction.execute_one("DELETE FROM things WHERE id = :id", &id("c"), "gone")
        });
        wrote.await.unwrap();
        assert_eq!(crate::ids(&database).await, ["a", "b"]);
    });
}

#[test]
fn one_without_a_row_is_a_mistake_of_the_program() {
    check(async |database, _| {
        let asked = database.read(|transaction| transaction.one("SELECT id FROM things", &[]).map(|_| ())).await;
        assert!(matches!(asked, Err(Error::Internal(_))), "{asked:?}");
    });
}

#[test]
fn execute_one_wants_exactly_one_row() {
    check(async |database, _| {
        for (id, touched) in [("a", 0), ("%", 2)] {
            let wrote = database.write(move |transaction| {
                insert(transaction, "a")?;
                insert(transaction, "b")?;
                let sql = "UPDATE things SET amount = 1 WHERE :id = '%' OR id = 'z'";
                transaction.execute_one(sql, &[("id", id.into())], "things_expected")
            });
            let error = wrote.await.unwrap_err();
            assert!(error.is_constraint("things_expected"), "{touched} rows: {error}");
            assert!(crate::ids(&database).await.is_empty(), "nothing of the closure stays");
        }
    });
}

const INSERT: &str = "INSERT INTO things (id, code, amount, note, body, is_on) \
    VALUES (:id, :code, :amount, :note, :body, :is_on)";

fn thing(id: &str, code: Value, amount: Value, note: Value, body: Value, is_on: Value) -> Vec<Parameter<'static>> {
    vec![("id", id.into()), ("code", code), ("amount", amount), ("note", note), ("body", body), ("is_on", is_on)]
}

/// Texts that a careless layer would bend: quotes, colons, controls, two forms of one letter, letters outside the basic
/// plane, white space at the ends.
const TEXTS: [&str; 8] =
    ["", " ", "'; DROP TABLE things; --", ":id", "a\u{1}\n\t\"\\", "é e\u{301}", "\u{10FFFF}😀漢", " kept "];

#[test]
fn every_kind_of_value_comes_back_as_it_was() {
    check(async |database, _| {
        for (text, at) in TEXTS.into_iter().zip(0..) {
            let amount = [0, 1, i64::MAX, i64::MAX - 1][at % 4];
            let body: Vec<u8> = text.bytes().chain([0, 255, 128]).collect();
            let (id, on) = (format!("t{at}"), at % 2 == 0);
            let row = thing(&id, text.into(), amount.into(), text.into(), body.clone().into(), on.into());
            let id = id.clone();
            let back = database.write(move |transaction| {
                transaction.execute(INSERT, &row)?;
                let sql = "SELECT is_on, body, note, amount, code FROM things WHERE id = :id AND code = :code";
                let mut row = transaction.one(sql, &[("id", id.as_str().into()), ("code", text.into())])?;
                // Columns may be asked for in any order.
                let texts = (row.text("code")?, row.text("note")?);
                Ok::<_, Error>((texts, row.integer("amount")?, row.bytes("body")?, row.flag("is_on")?))
            });
            let expected = ((text.to_owned(), text.to_owned()), amount, body, on);
            assert_eq!(back.await.unwrap(), expected);
        }
    });
}

#[test]
fn the_smallest_number_and_nothing_at_all() {
    check(async |database, _| {
        let nothing = thing("n", Value::Null, Value::Null, Value::Null, Value::Null, Value::Null);
        let back = database.write(move |transaction| {
            transaction.execute(INSERT, &nothing)?;
            let least = [("name", "least".into()), ("part", i64::MIN.into()), ("value", (-1).into())];
            transaction.execute("INSERT INTO counters (name, part, value) VALUES (:name, :part, :value)", &least)?;
            let sql = "SELECT part FROM counters WHERE part = :part";
            let part = transaction.one(sql, &[("part", i64::MIN.into())])?.integer("part")?;
            let sql = "SELECT code, amount, note, body, is_on FROM things WHERE code IS NULL AND is_on IS NULL";
            let mut row = transaction.one(sql, &[])?;
            let texts = (row.optional_text("code")?, row.optional_integer("amount")?, row.optional_text("note")?);
            Ok::<_, Error>((part, texts))
        });
        assert_eq!(back.await.unwrap(), (i64::MIN, (None, None, None)));
    });
}

#[test]
fn flags_are_true_or_false_in_conditions() {
    check(async |database, _| {
        let found = database.write(|transaction| {
            for (id, on) in [("on", true), ("off", false)] {
                let row = thing(id, Value::Null, Value::Null, Value::Null, Value::Null, on.into());
                transaction.execute(INSERT, &row)?;
            }
            let named = |sql: &str, transaction: &mut cuenta_store::Transaction| {
                transaction.one(sql, &[("on", true.into())])?.text("id")
            };
            let by_column = named("SELECT id FROM things WHERE is_on", transaction)?;
            Ok::<_, Error>((by_column, named("SELECT id FROM things WHERE is_on = :on", transaction)?))
        });
        assert_eq!(found.await.unwrap(), ("on".to_owned(), "on".to_owned()));
    });
}

#[test]
fn a_list_matches_any_of_its_texts() {
    check(async |database, _| {
        let wrote = database.write(|transaction| {
            for text in TEXTS {
                let (id, none) = (format!("id{text}"), Value::Null);
                let row = thing(&id, text.into(), none.clone(), none.clone(), none.clone(), none);
                transaction.execute(INSERT, &row)?;
            }
            Ok::<_, Error>(())
        });
        wrote.await.unwrap();
        let lists: [&[&str]; 4] = [&[], &TEXTS, &["unknown", " ", ""], &["\"", "\\", "a\u{1}\n\t\"\\"]];
        for list in lists {
            let wanted: Vec<String> = list.iter().map(|text| (*text).to_owned()).collect();
            let mut expected: Vec<String> =
                wanted.iter().filter(|text| TEXTS.contains(&text.as_str())).cloned().collect();
            expected.sort();
            let found = database.read(move |transaction| {
                let sql = "SELECT code FROM things WHERE code = ANY(:codes) ORDER BY code";
                let rows = transaction.all(sql, &[("codes", wanted.clone().into())])?;
                rows.into_iter().map(|mut row| row.text("code")).collect::<Result<Vec<_>, Error>>()
            });
            assert_eq!(found.await.unwrap(), expected);
        }
    });
}

#[test]
fn texts_are_ordered_by_their_bytes() {
    check(async |database, _| {
        let mut sorted = ["a", "B", "Z", "_", "ä", "é", "e\u{301}", "10", "9", "", " "];
        let wrote = database.write(move |transaction| sorted.iter().try_for_each(|id| insert(transaction, id)));
        wrote.await.unwrap();
        sorted.sort_unstable();
        assert_eq!(crate::ids(&database).await, sorted);
    });
}

#[test]
fn quoted_text_and_repeated_names_are_left_alone() {
    check(async |database, _| {
        let read = database.read(|transaction| {
            let sql = "SELECT ':id' AS plain, CASE WHEN :id = 'x' AND :id <> 'it''s :no' THEN 1 ELSE 0 END AS same";
            let mut row = transaction.one(sql, &[("id", "x".into())])?;
            Ok::<_, Error>((row.text("plain")?, row.integer("same")?))
        });
        assert_eq!(read.await.unwrap(), (":id".to_owned(), 1));
    });
}

#[test]
fn mistakes_of_the_program_are_told_in_words() {
    type Mistake = fn(&mut Row) -> Result<(), Error>;
    let mistakes: [(Mistake, &str); 4] = [
        (|row| row.text("missing").map(|_| ()), "the answer has no column missing"),
        (|row| row.integer("id").map(|_| ()), "column id holds a text"),
        (|row| row.text("note").map(|_| ()), "column note is null"),
        (|row| row.bytes("amount").map(|_| ()), "column amount holds a number"),
    ];
    check(async |database, _| {
        database.write(|transaction| insert(transaction, "a")).await.unwrap();
        for (mistake, words) in mistakes {
            let read = database.read(move |transaction| {
                let sql = "SELECT id, note, CAST(1 AS BIGINT) AS amount FROM things";
                mistake(&mut transaction.one(sql, &[])?)
            });
            assert_eq!(read.await.unwrap_err().to_string(), words);
        }
        let unbound = database.write(|transaction| transaction.execute("DELETE FROM things WHERE id = :id", &[]));
        assert_eq!(unbound.await.unwrap_err().to_string(), "the statement needs the parameter :id");
    });
}

#[test]
fn the_database_knows_the_moment() {
    check(async |database, _| {
        let now = database.read(|transaction| {
            let before = transaction.guarded_micros();
            let sql = "SELECT CASE WHEN :then < :database_now THEN 1 ELSE 0 END AS past, \
                       CASE WHEN :soon > :database_now THEN 1 ELSE 0 END AS future";
            // The clocks of the machine and of the server are the same one here; a minute is far more than they differ.
            let minute = 60_000_000;
            let parameters = [("then", (before - minute).into()), ("soon", (before + minute).into())];
            let mut row = transaction.one(sql, &parameters)?;
            Ok::<_, Error>((row.integer("past")?, row.integer("future")?))
        });
        assert_eq!(now.await.unwrap(), (1, 1));
    });
}
