//! What the reader accepts and refuses, and what the writers promise.

use proptest::prelude::*;

use super::*;

fn fault(text: &str) -> (JsonFault, usize) {
    let error = parse(text.as_bytes()).unwrap_err();
    (error.fault, error.offset)
}

fn canonical(json: &Json) -> String {
    let mut out = Vec::new();
    json.canonical(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn reads_every_kind_of_value() {
    let json = parse(b" {\"b\": [1, -0, 0.50, 1E+9, true, false, null], \"a\": {\"\": \"\"} }\r\n\t").unwrap();
    assert_eq!(json.to_string(), r#"{"b":[1,-0,0.50,1E+9,true,false,null],"a":{"":""}}"#);
    assert_eq!(json.get("a").and_then(|inner| inner.get("")), Some(&Json::Text(String::new())));
    assert_eq!(json.get("c"), None);
}

#[test]
fn resolves_escapes() {
    for (text, expected) in [
        (r#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{c}\n\r\t"),
        (r#""\u0041\u00e9\u20AC""#, "Aé€"),
        (r#""\ud83d\ude00!""#, "😀!"),
        (r#""\u0001\u007f\uffff""#, "\u{1}\u{7f}\u{ffff}"),
        ("\"é\u{7f}\u{80}\u{2028}😀\"", "é\u{7f}\u{80}\u{2028}😀"),
        (r#""\u0065\u0301""#, "e\u{301}"),
    ] {
        assert_eq!(parse(text.as_bytes()), Ok(Json::Text(expected.to_owned())), "{text}");
    }
}

#[test]
fn refuses_what_is_not_json() {
    use JsonFault::*;
    for (text, fault_expected, offset) in [
        ("", Empty, 0),
        (" \n", Empty, 2),
        ("\u{feff}{}", ByteOrderMark, 0),
        ("{} x", TrailingContent, 3),
        ("{}{}", TrailingContent, 2),
        ("1 2", TrailingContent, 2),
        ("[1 2]", ExpectedCommaOrBracket, 3),
        ("[1", ExpectedCommaOrBracket, 2),
        ("[1,]", ExpectedValue, 3),
        ("[,1]", ExpectedValue, 1),
        ("[", ExpectedValue, 1),
        ("{\"a\" 1}", ExpectedColon, 5),
        ("{\"a\":1,}", ExpectedName, 7),
        ("{a:1}", ExpectedName, 1),
        ("{'a':1}", ExpectedName, 1),
        ("{\"a\":1 \"b\":2}", ExpectedCommaOrBrace, 7),
        ("{\"a\":}", ExpectedValue, 5),
        ("{", ExpectedName, 1),
        ("NaN", ExpectedValue, 0),
        ("-NaN", ExpectedDigit, 1),
        ("Infinity", ExpectedValue, 0),
        ("-Infinity", ExpectedDigit, 1),
        ("nul", ExpectedValue, 0),
        ("nullx", TrailingContent, 4),
        ("True", ExpectedValue, 0),
        ("/* c */ 1", ExpectedValue, 0),
        ("1 // c", TrailingContent, 2),
        ("+1", ExpectedValue, 0),
        (".5", ExpectedValue, 0),
        ("-.5", ExpectedDigit, 1),
        ("1.", ExpectedDigit, 2),
        ("1.e3", ExpectedDigit, 2),
        ("1e", ExpectedDigit, 2),
        ("1e+", ExpectedDigit, 3),
        ("-", ExpectedDigit, 1),
        ("01", LeadingZero, 0),
        ("-01", LeadingZero, 1),
        ("00", LeadingZero, 0),
        ("0x1", TrailingContent, 1),
        ("1_000", TrailingContent, 1),
        ("\"a", UnterminatedString, 2),
        ("\"a\\", InvalidEscape, 2),
        ("\"\\x41\"", InvalidEscape, 1),
        ("\"\\u12\"", InvalidEscape, 1),
        ("\"\\u+123\"", InvalidEscape, 1),
        ("\"\\u00é\"", InvalidEscape, 1),
        ("\"\\U0041\"", InvalidEscape, 1),
        ("\"a\nb\"", ControlCharacter, 2),
        ("\"a\tb\"", ControlCharacter, 2),
        ("\"a\0b\"", ControlCharacter, 2),
        ("\"\\ud83d\"", LoneSurrogate, 1),
        ("\"\\ude00\"", LoneSurrogate, 1),
        ("\"\\ude00\\ud83d\"", LoneSurrogate, 1),
        ("\"\\ud83d\\ud83d\"", LoneSurrogate, 1),
        ("\"\\ud83d\\u0041\"", LoneSurrogate, 1),
        ("\u{a0}1", ExpectedValue, 0),
        ("\u{b}1", ExpectedValue, 0),
    ] {
        assert_eq!(fault(text), (fault_expected, offset), "{text:?}");
    }
    for bytes in [&b"\"\xff\""[..], b"\"\xed\xa0\x80\"", b"\"\xc0\x80\"", b"\"\xf4\x90\x80\x80\"", b"\"\xe2\x82\""] {
        assert_eq!(parse(bytes), Err(JsonError { fault: NotUtf8, offset: 1 }));
    }
}

#[test]
fn refuses_equal_names_wherever_they_are() {
    for text in [
        r#"{"a":1,"a":1}"#,
        r#"{"a":1,"b":2,"\u0061":3}"#,
        r#"{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8,"i":9,"a":10}"#,
    ] {
        assert_eq!(fault(text), (JsonFault::DuplicateName, 0));
        assert_eq!(fault(&format!("[{text}]")), (JsonFault::DuplicateName, 1));
    }
    // Texts are not normalized, so the two spellings of é are two names.
    assert!(parse("{\"\u{e9}\":1,\"e\u{301}\":2,\"a\":{\"a\":1}}".as_bytes()).is_ok());
}

#[test]
fn limits_hold_exactly() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(parse(nested(MAX_DEPTH).as_bytes()).is_ok());
    assert_eq!(fault(&nested(MAX_DEPTH + 1)), (JsonFault::TooDeep, MAX_DEPTH));
    assert_eq!(fault(&"[".repeat(1_000_000)), (JsonFault::TooDeep, MAX_DEPTH));
    assert_eq!(fault(&"{\"a\":".repeat(1_000_000)), (JsonFault::TooDeep, 5 * MAX_DEPTH));

    let number = "1".repeat(MAX_NUMBER_LENGTH);
    assert_eq!(parse(number.as_bytes()), Ok(Json::Number(number.clone())));
    assert_eq!(fault(&format!(" {number}1")), (JsonFault::NumberTooLong, 1));

    let items = |count: usize| format!("[{}1]", "1,".repeat(count - 1));
    assert!(parse(items(MAX_VALUES - 1).as_bytes()).is_ok());
    assert_eq!(fault(&items(MAX_VALUES)), (JsonFault::TooManyValues, 2 * MAX_VALUES - 1));
}

#[test]
fn an_object_of_many_names_is_read_at_once() {
    let members: Vec<_> = (0..MAX_VALUES - 1).map(|index| format!("\"{index}\":0")).collect();
    assert!(parse(format!("{{{}}}", members.join(",")).as_bytes()).is_ok());
    let repeated = format!("{{{},\"7\":0}}", members[1..].join(","));
    assert_eq!(fault(&repeated), (JsonFault::DuplicateName, 0));
}

#[test]
fn messages_tell_the_place_and_never_the_text() {
    let error = parse(b"{\"secret\" \"hunter2\"}").unwrap_err();
    assert_eq!(error.to_string(), "the body is not JSON: expected `:` at byte 10");
    assert!(JsonFault::TooDeep.message().contains(&MAX_DEPTH.to_string()));
    assert!(JsonFault::NumberTooLong.message().contains(&MAX_NUMBER_LENGTH.to_string()));
    assert_eq!(MAX_VALUES, 100_000);
}

#[test]
fn canonical_form_sorts_by_bytes_and_escapes_little() {
    let json = parse(r#"{"é":1.0,"b":{"z":1e3,"a":-0},"B":"\/\u001F\u00e9\u2028\u007f\"\\\n","":[]}"#.as_bytes());
    let expected = "{\"\":[],\"B\":\"/\\u001fé\u{2028}\u{7f}\\\"\\\\\\n\",\"b\":{\"a\":-0,\"z\":1e3},\"é\":1.0}";
    assert_eq!(canonical(&json.unwrap()), expected);
    // In UTF-16 the emoji would come first; in bytes it comes last.
    assert_eq!(canonical(&parse("{\"😀\":1,\"\u{ffff}\":2}".as_bytes()).unwrap()), "{\"\u{ffff}\":2,\"😀\":1}");
}

#[test]
fn serializes_number_tokens_as_written() {
    #[derive(serde::Serialize)]
    struct Noun {
        metadata: Json,
    }
    let text =
        r#"{"metadata":{"z":1.10,"a":[-0,0,12345678901234567890,1E400,-9223372036854775808,"\u0001"],"n":null}}"#;
    let metadata = parse(text.as_bytes()).unwrap().get("metadata").unwrap().clone();
    assert_eq!(serde_json::to_string(&Noun { metadata }).unwrap(), text);
}

fn number() -> impl Strategy<Value = String> {
    "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,12})?([eE][+-]?[0-9]{1,3})?"
}

/// A string as the reader may return it: any characters but NUL, many of them such as need an escape.
fn string() -> impl Strategy<Value = String> {
    let special = prop::sample::select(vec!['"', '\\', '\n', '\u{1}', '\u{1f}', '/', '\u{7f}', 'é', '😀', 'a']);
    let any = any::<char>().prop_filter("not NUL", |character| *character != '\0');
    prop::collection::vec(prop_oneof![special, any], 0..8).prop_map(String::from_iter)
}

fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        number().prop_map(Json::Number),
        string().prop_map(Json::Text),
    ];
    leaf.prop_recursive(4, 48, 12, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..12).prop_map(Json::Array),
            prop::collection::btree_map(string(), inner, 0..12)
                .prop_map(|members| members.into_iter().collect::<Vec<_>>())
                .prop_shuffle()
                .prop_map(Json::Object),
        ]
    })
}

/// The same value in another spelling: members reversed, white space everywhere, every character escaped.
fn respelled(json: &Json) -> String {
    let quoted = |text: &str| {
        let units: String = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
        format!("\"{units}\"")
    };
    let spelled = match json {
        Json::Text(text) => quoted(text),
        Json::Array(items) => format!("[{}]", items.iter().map(respelled).collect::<Vec<_>>().join(",")),
        Json::Object(members) => {
            let members =
                members.iter().rev().map(|(name, value)| format!("\n{} :{}", quoted(name), respelled(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
        scalar => scalar.to_string(),
    };
    format!(" {spelled}\t\r")
}

proptest! {
    #[test]
    fn what_is_printed_is_read_again(json in json()) {
        let text = json.to_string();
        prop_assert_eq!(&parse(text.as_bytes()).unwrap(), &json);
        prop_assert_eq!(serde_json::to_string(&json).unwrap(), text);
    }

    #[test]
    fn canonical_form_does_not_see_spelling(json in json()) {
        let other = parse(respelled(&json).as_bytes()).unwrap();
        let form = canonical(&json);
        prop_assert_eq!(&canonical(&other), &form);
        prop_assert_eq!(canonical(&parse(form.as_bytes()).unwrap()), form);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn agrees_with_another_reader(text in "[\\[\\]{}:,\" \\\\u0-9a-f.eE+\\-tn]{0,24}") {
        // Whatever is accepted here is JSON for everybody; the reverse need not hold.
        if parse(text.as_bytes()).is_ok() {
            prop_assert!(serde_json::from_str::<&RawValue>(&text).is_ok());
        }
    }
}
