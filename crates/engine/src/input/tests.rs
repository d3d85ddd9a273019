//! Objects: what is required, optional, cleared or unknown, and how problems add up.

use super::*;
use crate::error::{Error, Kind};

#[derive(Debug, PartialEq)]
struct Person {
    name: String,
    nickname: Option<String>,
    contacts: Vec<Contact>,
}

#[derive(Debug, PartialEq)]
struct Contact {
    email: String,
    country: Option<Country>,
}

impl Person {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let name = fields.required("name", text(10));
        let nickname = fields.optional("nickname", text(10));
        let contacts = fields.optional("contacts", list(3, object(Contact::read)));
        if nickname.is_some() && nickname == name {
            fields.problem("nickname", "must not equal `name`");
        }
        Some(Self { name: name?, nickname, contacts: contacts.unwrap_or_default() })
    }
}

impl Contact {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        fields.ignored("id");
        let email = fields.required("email", email);
        let country = fields.optional("country", country);
        Some(Self { email: email?, country })
    }
}

#[derive(Debug, Default, PartialEq)]
struct PersonUpdate {
    name: Option<String>,
    nickname: Patch<String>,
}

impl PersonUpdate {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self { name: fields.patch_required("name", text(10)), nickname: fields.patch("nickname", text(10)) })
    }
}

fn read_text<T>(text: &str, reader: impl Fn(&mut Fields<'_>) -> Option<T>) -> Result<T, String> {
    let body = json::parse(text.as_bytes()).unwrap();
    read(&body, UnknownProperties::Refuse, reader).map_err(|problems| problems.detail())
}

fn refused<T: fmt::Debug>(text: &str, reader: impl Fn(&mut Fields<'_>) -> Option<T>) -> String {
    let detail = read_text(text, reader).unwrap_err();
    detail.strip_prefix("Validation failed: ").unwrap().to_owned()
}

#[test]
fn reads_a_whole_object() {
    let text = r#"{"name":" Ada ","nickname":null,"contacts":[{"id":7,"email":"ada@x.org","country":"GB"}]}"#;
    let contact = Contact { email: "ada@x.org".to_owned(), country: Country::parse("GBR").ok() };
    let expected = Person { name: " Ada ".to_owned(), nickname: None, contacts: vec![contact] };
    assert_eq!(read_text(text, Person::read), Ok(expected));
}

#[test]
fn names_every_problem_with_its_path() {
    for (text, expected) in [
        ("{}", "name is required"),
        (r#"{"name":null}"#, "name is required"),
        (r#"{"name":7}"#, "name must be a string"),
        (r#"{"name":"Ada","nickname":"Ada"}"#, "nickname must not equal `name`"),
        (r#"{"name":"Ada","contacts":{}}"#, "contacts must be a list"),
        (r#"{"name":"Ada","contacts":[{},{},{},{}]}"#, "contacts must have at most 3 items"),
        (r#"{"name":"Ada","contacts":[null,[]]}"#, "contacts[0] must be an object; contacts[1] must be an object"),
        (
            r#"{"contacts":[{"email":"a@x.org"},{"email":"b","country":"esp"},{"country":1}]}"#,
            "name is required; contacts[1].email is not an e-mail address; \
             contacts[1].country must be in upper case: use `ESP`; \
             contacts[2].email is required; contacts[2].country must be a string",
        ),
        (r#"["name"]"#, "body must be an object"),
        ("null", "body must be an object"),
    ] {
        assert_eq!(refused(text, Person::read), expected, "{text}");
    }
}

#[test]
fn unknown_names_are_refused_with_the_nearest() {
    for (text, expected) in [
        (r#"{"nmae":"Ada"}"#, "name is required; nmae is not known (did you mean `name`?)"),
        (r#"{"name":"Ada","Name":1}"#, "Name is not known (did you mean `name`?)"),
        (r#"{"name":"Ada","zzz":null}"#, "zzz is not known (the nearest known name is `name`)"),
        (
            r#"{"name":"Ada","contacts":[{"email":"a@x.org","contry":"ESP"}]}"#,
            "contacts[0].contry is not known (did you mean `country`?)",
        ),
        (r#"{"name":"Ada","a\nb":1}"#, "a\u{fffd}b is not known (the nearest known name is `name`)"),
    ] {
        assert_eq!(refused(text, Person::read), expected, "{text}");
    }
    assert_eq!(refused(r#"{"a":1}"#, |_| Some(())), "a is not known");

    let long = "x".repeat(10_000);
    let detail = refused(&format!(r#"{{"name":"Ada","{long}":1}}"#), Person::read);
    assert!(detail.starts_with(&format!("{}… is not known", &long[..MAX_ECHOED_NAME])), "{detail}");
}

#[test]
fn unknown_names_may_be_ignored() {
    let body = json::parse(br#"{"name":"Ada","nmae":1,"contacts":[{"email":"a@x.org","x":1}]}"#).unwrap();
    assert!(read(&body, UnknownProperties::Ignore, Person::read).is_ok());
}

#[test]
fn an_update_tells_absent_null_and_value_apart() {
    let update = |name: Option<&str>, nickname: Patch<&str>| PersonUpdate {
        name: name.map(str::to_owned),
        nickname: match nickname {
            Patch::Absent => Patch::Absent,
            Patch::Null => Patch::Null,
            Patch::Value(text) => Patch::Value(text.to_owned()),
        },
    };
    for (text, expected) in [
        ("{}", update(None, Patch::Absent)),
        (r#"{"nickname":null}"#, update(None, Patch::Null)),
        (r#"{"name":"A","nickname":"B"}"#, update(Some("A"), Patch::Value("B"))),
    ] {
        assert_eq!(read_text(text, PersonUpdate::read), Ok(expected), "{text}");
    }
    assert_eq!(
        refused(r#"{"name":null,"nickname":""}"#, PersonUpdate::read),
        "name cannot be null; nickname must not be empty"
    );
}

#[test]
fn a_patch_changes_an_option() {
    for (patch, expected) in [(Patch::Absent, Some(1)), (Patch::Null, None), (Patch::Value(2), Some(2))] {
        let mut target = Some(1);
        assert_eq!(patch.is_absent(), patch == Patch::Absent);
        assert_eq!(patch.as_option().copied(), patch.clone().into_option());
        patch.apply(&mut target);
        assert_eq!(target, expected);
    }
}

#[test]
fn many_problems_are_counted_and_not_listed() {
    let names: Vec<_> = (0..50_000).map(|index| format!("\"x{index}\":0")).collect();
    let body = json::parse(format!("{{{}}}", names.join(",")).as_bytes()).unwrap();
    let problems = read(&body, UnknownProperties::Refuse, Person::read).unwrap_err();
    assert_eq!(problems.as_slice().len(), MAX_PROBLEMS);
    assert!(problems.detail().ends_with("; and 49901 more"), "{}", problems.detail());
    let error = Error::from(problems);
    assert_eq!((error.kind(), error.code()), (Kind::Invalid, "validation_failed"));
    assert_eq!(error.fields().len(), MAX_PROBLEMS);
    assert_eq!(error.fields()[0], Problem { field: "name".to_owned(), message: "is required".to_owned() });
}

#[test]
fn a_reader_that_gives_up_is_never_success() {
    assert_eq!(refused("{}", |_| None::<()>), "body cannot be understood");
}
