//! Tables of what each reader takes and refuses.

use super::super::{Problems, UnknownProperties};
use super::*;

/// Reads one value through a reader, as the property `value` would be; the problems are joined.
fn run<T>(text: &str, reader: impl Fn(Value<'_>) -> Option<T>) -> Result<T, String> {
    let json = crate::json::parse(text.as_bytes()).unwrap();
    let mut problems = Problems::default();
    let value = Value { json: &json, path: Path::Body, unknown: UnknownProperties::Refuse, problems: &mut problems };
    let read = reader(value);
    let messages: Vec<_> = problems.into_vec().into_iter().map(|problem| problem.message).collect();
    assert_eq!(read.is_none(), !messages.is_empty(), "a reader returns nothing exactly when it records a problem");
    read.ok_or_else(|| messages.join("; "))
}

fn quoted(text: &str) -> String {
    Json::Text(text.to_owned()).to_string()
}

#[test]
fn text_is_kept_as_sent_or_refused() {
    for kept in ["a", " a ", "ééé", "😀😀😀", "e\u{301}x", "\u{202e}ab", "\u{200b}"] {
        assert_eq!(run(&quoted(kept), text(3)).as_deref(), Ok(kept));
    }
    for (sent, message) in [
        ("", "must not be empty"),
        (" \u{a0}\u{3000}", "must not be empty"),
        ("\n\t", "must not be empty"),
        ("abcd", "must be at most 3 characters long"),
        ("éééé", "must be at most 3 characters long"),
        ("a\nb", "must not hold control characters"),
        ("a\u{1}", "must not hold control characters"),
        ("a\u{7f}", "must not hold control characters"),
        ("a\u{85}", "must not hold control characters"),
        ("a\u{9f}", "must not hold control characters"),
    ] {
        assert_eq!(run(&quoted(sent), text(3)), Err(message.to_owned()), "{sent:?}");
    }
    for other in ["1", "true", "[]", "{}", "[\"a\"]"] {
        assert_eq!(run(other, text(3)), Err("must be a string".to_owned()));
    }
}

#[test]
fn multiline_text_takes_line_feeds_and_tabs_only() {
    assert_eq!(run(&quoted("a\n\tb"), multiline_text(9)).as_deref(), Ok("a\n\tb"));
    for refused in ["a\rb", "a\u{b}b", "a\u{1b}b"] {
        assert_eq!(run(&quoted(refused), multiline_text(9)), Err("must not hold control characters".to_owned()));
    }
    assert_eq!(run(&quoted("\n \n"), multiline_text(9)), Err("must not be empty".to_owned()));
}

#[test]
fn email_takes_the_bare_address() {
    let long = format!("{}@{}.org", "a".repeat(64), ["b".repeat(60).as_str(); 3].join("."));
    assert_eq!(long.len(), 64 + 1 + 182 + 4);
    for kept in ["a@x.org", "Ada.Lovelace+tag@Mail.Example.com", "o'hara@x.org", "ü@bücher.de", long.as_str()] {
        assert_eq!(run(&quoted(kept), email).as_deref(), Ok(kept));
    }
    for sent in [
        "",
        " ",
        "a",
        "a@",
        "@x.org",
        "a@x",
        "a@localhost",
        "a@@x.org",
        "a@x..org",
        "a@.x.org",
        "a@x.org.",
        ".a@x.org",
        "a.@x.org",
        "a b@x.org",
        " a@x.org",
        "a@x.org ",
        "Bob <b@x.org>",
        "<b@x.org>",
        "b@x.org, c@x.org",
        "a(c)@x.org",
        "a@[127.0.0.1]",
        "a@x.org\n",
        "a\u{a0}b@x.org",
        "a\u{80}@x.org",
        "\"a b\"@x.org",
        "mailto:a@x.org",
        "a@-x.org",
    ] {
        assert_eq!(run(&quoted(sent), email), Err("is not an e-mail address".to_owned()), "{sent:?}");
    }
    assert_eq!(run(&quoted(&format!("{long}abcd")), email), Err("must be at most 254 characters long".to_owned()));
    assert_eq!(run("1", email), Err("must be a string".to_owned()));
}

#[test]
fn decimal_numbers_are_strings() {
    assert_eq!(run("\"0.20\"", decimal).as_ref().map(DecimalText::as_str), Ok("0.20"));
    for (sent, message) in [
        ("0.20", "must be a string: \"0.20\""),
        ("-12", "must be a string: \"-12\""),
        ("1e3", "must be a decimal number in a string, such as \"12.50\""),
        ("0.0000000000001", "must be a decimal number in a string, such as \"12.50\""),
        ("true", "must be a decimal number in a string, such as \"12.50\""),
    ] {
        assert_eq!(run(sent, decimal).err().as_deref(), Some(message), "{sent}");
    }
    assert!(run("\"1e3\"", decimal).unwrap_err().starts_with("must be a decimal number such as `12.50`"));
}

#[test]
fn a_checked_reader_has_one_problem() {
    let rate = checked(decimal, DecimalText::within_zero_and_one, "must be a fraction between 0 and 1");
    assert!(run("\"0.2\"", &rate).is_ok());
    assert_eq!(run("\"1.2\"", &rate).err().as_deref(), Some("must be a fraction between 0 and 1"));
    assert_eq!(run("0.2", &rate).err().as_deref(), Some("must be a string: \"0.2\""));
}

#[test]
fn integers_are_written_as_integers() {
    for (sent, expected) in [("0", 0), ("-0", 0), ("-5", -5), ("9223372036854775807", i64::MAX)] {
        assert_eq!(run(sent, integer(i64::MIN..=i64::MAX)), Ok(expected));
    }
    for (sent, message) in [
        ("1.0", "must be an integer, without fraction and exponent"),
        ("1e0", "must be an integer, without fraction and exponent"),
        ("1E0", "must be an integer, without fraction and exponent"),
        ("\"1\"", "must be an integer"),
        ("true", "must be an integer"),
        ("0", "must be between 1 and 5"),
        ("6", "must be between 1 and 5"),
        ("9223372036854775808", "must be between 1 and 5"),
        ("-99999999999999999999", "must be between 1 and 5"),
    ] {
        assert_eq!(run(sent, integer(1..=5)), Err(message.to_owned()), "{sent}");
    }
}

#[test]
fn booleans_words_and_colors() {
    assert_eq!(run("true", boolean), Ok(true));
    assert_eq!(run("false", boolean), Ok(false));
    for sent in ["1", "\"true\"", "[]"] {
        assert_eq!(run(sent, boolean), Err("must be true or false".to_owned()));
    }

    let word = enumeration(&[("live", 1), ("sandbox", 2)]);
    assert_eq!(run("\"sandbox\"", &word), Ok(2));
    for sent in ["\"Live\"", "\"\"", "1", "\"live \""] {
        assert_eq!(run(sent, &word), Err("must be one of `live`, `sandbox`".to_owned()));
    }

    assert_eq!(run("\"#1a2B3c\"", color).as_deref(), Ok("#1a2B3c"));
    for sent in ["\"#fff\"", "\"1a2b3c\"", "\"#1a2b3g\"", "\"#1a2b3c4d\"", "\"red\"", "\"#ééé\"", "\"\""] {
        assert_eq!(run(sent, color), Err("must be a color such as `#1A2B3C`".to_owned()));
    }
}

#[test]
fn codes_are_upper_case() {
    assert_eq!(run("\"EUR\"", currency).map(|currency| currency.code()), Ok("EUR"));
    assert_eq!(run("\"usd\"", currency), Err("must be in upper case: use `USD`".to_owned()));
    assert_eq!(run("\"XAU\"", currency), Err("cannot be `XAU`, which has no minor unit".to_owned()));
    assert_eq!(run("\"ES\"", country).map(|country| country.code()), Ok("ESP"));
    assert_eq!(run("\"es\"", country), Err("must be in upper case: use `ESP`".to_owned()));
    assert_eq!(run("7", country), Err("must be a string".to_owned()));
}

#[test]
fn lists_read_every_item() {
    assert_eq!(run("[1,2]", list(2, integer(0..=9))), Ok(vec![1, 2]));
    assert_eq!(run("[]", list(0, integer(0..=9))), Ok(Vec::new()));
    assert_eq!(run("[1,2,3]", list(2, integer(0..=9))), Err("must have at most 2 items".to_owned()));
    assert_eq!(
        run("[\"a\",1,null]", list(3, integer(0..=9))),
        Err("must be an integer; must be an integer".to_owned())
    );
    assert_eq!(run("\"a,b\"", list(3, text(3))), Err("must be a list".to_owned()));
}

#[test]
fn metadata_is_kept_as_sent_within_its_limits() {
    let kept = r#"{"b":{"x":[1.10,null]},"a":"line\nline","é":true}"#;
    assert_eq!(run(kept, metadata).map(|json| json.to_string()).as_deref(), Ok(kept));
    assert!(run("{}", metadata).is_ok());

    let keys = |count: usize| {
        let members: Vec<_> = (0..count).map(|index| format!("\"k{index}\":1")).collect();
        format!("{{{}}}", members.join(","))
    };
    assert!(run(&keys(50), metadata).is_ok());
    assert_eq!(run(&keys(51), metadata), Err("must have at most 50 keys".to_owned()));

    assert!(run(r#"{"":1}"#, metadata).is_ok());
    let control = run(r#"{"a\nb":2}"#, metadata).unwrap_err();
    assert_eq!(control, "has a key of more than 255 characters or with control characters");
    let nul = Err("must not hold the character NUL".to_owned());
    assert_eq!(run(r#"{"a":["x\u0000"]}"#, metadata), nul);
    assert_eq!(run(r#"{"a":{"\u0000":1}}"#, metadata), nul);
    assert!(run(&format!("{{\"{}\":1}}", "é".repeat(255)), metadata).is_ok());
    assert!(run(&format!("{{\"{}\":1}}", "é".repeat(256)), metadata).is_err());

    let sized = |bytes: usize| format!("{{ \"a\" : \"{}\" }}", "x".repeat(bytes - r#"{"a":""}"#.len()));
    assert!(run(&sized(16 * 1024), metadata).is_ok());
    assert_eq!(run(&sized(16 * 1024 + 1), metadata), Err("must be at most 16 KiB long".to_owned()));
    for sent in ["[]", "\"a\"", "1"] {
        assert_eq!(run(sent, metadata), Err("must be an object".to_owned()));
    }
}
