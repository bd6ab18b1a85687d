//! Reading what Claude Code writes to a hook's standard input: one JSON object.
//!
//! The input of a tool that writes a file holds the whole file, and only the first 64 KiB are read. So the object may
//! be cut off anywhere; the fields that were complete before the cut count. That works because the names come first.

use std::fmt;

use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::{Map, Value};

use crate::frame::HookEvent;

/// The most bytes of a hook's input that are looked at.
pub const MAX_INPUT: usize = 64 << 10;

/// Reads what is known of a hook from its input, of which the end may be missing.
///
/// Gives nothing when `hook_event_name` was not found in the first [`MAX_INPUT`] bytes.
#[must_use]
pub fn parse(input: &[u8]) -> Option<HookEvent> {
    let mut fields = Map::new();
    let mut json = serde_json::Deserializer::from_slice(input.get(..MAX_INPUT).unwrap_or(input));
    // An error is a cut or garbage; `fields` holds what stood before it.
    drop(json.deserialize_map(Fields(&mut fields)));

    let text = |key: &str| Some(fields.get(key)?.as_str()?.to_owned());
    let has_items = |key: &str| {
        fields.get(key).and_then(Value::as_array).is_some_and(|items| !items.is_empty())
    };
    let tool = text("tool_name");
    let mut event = HookEvent {
        name: text("hook_event_name")?,
        notification_type: text("notification_type"),
        source: text("source"),
        error: text("error"),
        detail: fields
            .get("tool_input")
            .and_then(|input| question(input).or_else(|| action(tool.as_deref(), input)))
            .or_else(|| tool.clone())
            .or_else(|| text("message")),
        background: has_items("background_tasks") || has_items("session_crons"),
        tool,
    };
    event.clean();
    (!event.name.is_empty()).then_some(event)
}

/// The first question of an `AskUserQuestion`.
fn question(input: &Value) -> Option<String> {
    let question = input.pointer("/questions/0/question").or_else(|| input.get("question"))?;
    Some(question.as_str()?.to_owned())
}

/// What a tool would do: its command, file or address.
fn action(tool: Option<&str>, input: &Value) -> Option<String> {
    let object = ["command", "file_path", "notebook_path", "url", "pattern"]
        .into_iter()
        .find_map(|key| input.get(key)?.as_str())?;
    Some(match tool {
        Some(tool) => format!("{tool}: {object}"),
        None => object.to_owned(),
    })
}

/// Collects the fields of one object in a place that outlives an error further on.
struct Fields<'a>(&'a mut Map<String, Value>);

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        while let Some((key, value)) = object.next_entry()? {
            self.0.insert(key, value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_question_is_shown_as_it_was_asked() {
        let event = parse(
            br#"{"session_id":"s","hook_event_name":"PermissionRequest","tool_name":"AskUserQuestion",
                "tool_input":{"questions":[{"question":"Which database?","options":[]}]}}"#,
        )
        .unwrap();
        assert_eq!(event.name, "PermissionRequest");
        assert_eq!(event.tool.as_deref(), Some("AskUserQuestion"));
        assert_eq!(event.detail.as_deref(), Some("Which database?"));
    }

    #[test]
    fn a_tool_is_shown_with_what_it_would_do() {
        let input = br#"{"hook_event_name":"PermissionRequest","tool_name":"Bash","tool_input":{"command":"rm x"}}"#;
        assert_eq!(parse(input).unwrap().detail.as_deref(), Some("Bash: rm x"));
    }

    #[test]
    fn a_notification_shows_its_message() {
        let event = parse(
            br#"{"hook_event_name":"Notification","notification_type":"idle_prompt","message":"Claude is waiting"}"#,
        )
        .unwrap();
        assert_eq!(event.notification_type.as_deref(), Some("idle_prompt"));
        assert_eq!(event.detail.as_deref(), Some("Claude is waiting"));
    }

    #[test]
    fn a_stop_tells_of_background_tasks() {
        let background = |fields: &str| {
            parse(format!(r#"{{"hook_event_name":"Stop"{fields}}}"#).as_bytes()).unwrap().background
        };
        assert!(!background(""));
        assert!(!background(r#","background_tasks":[]"#));
        assert!(background(r#","background_tasks":[{"id":1}]"#));
        assert!(background(r#","session_crons":[{"id":1}]"#));
    }

    #[test]
    fn a_large_input_is_known_by_its_beginning() {
        let file = "x".repeat(1 << 20);
        let input = format!(
            r#"{{"hook_event_name":"PermissionRequest","tool_name":"Write","tool_input":{{"file_path":"a","content":"{file}"}}}}"#
        );
        let event = parse(input.as_bytes()).unwrap();
        assert_eq!(
            (event.name.as_str(), event.detail.as_deref()),
            ("PermissionRequest", Some("Write"))
        );
    }

    #[test]
    fn texts_are_cut_and_harmless() {
        let input = format!(
            r#"{{"hook_event_name":"StopFailure","error":"\u001b]0;x\u0007{}","message":7,"source":null}}"#,
            "y".repeat(500)
        );
        let event = parse(input.as_bytes()).unwrap();
        assert_eq!(event.error.as_ref().map(|error| error.chars().count()), Some(140));
        assert!(event.error.unwrap().starts_with("]0;x yyy"));
        assert_eq!((event.detail, event.source), (None, None));
    }

    #[test]
    fn what_is_no_hook_is_nothing() {
        for input in [
            "",
            "{",
            "[]",
            "7",
            "null",
            r#"{"a":1}"#,
            r#"{"hook_event_name":7}"#,
            r#"{"hook_event_name":""}"#,
        ] {
            assert_eq!(parse(input.as_bytes()), None, "{input}");
        }
        assert_eq!(parse(&b"[".repeat(MAX_INPUT)), None);
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_name_or_nothing(cut in 0_usize..140) {
            let whole = br#"{"hook_event_name":"Stop","background_tasks":[{"a":"b\u00e9"}],"last":{"c":[1,2.5e3,null,true]}}"#;
            let input = whole.get(..cut).unwrap_or(whole);
            if let Some(event) = parse(input) {
                prop_assert_eq!(event.name, "Stop");
            } else {
                prop_assert!(cut < 26);
            }
        }

        #[test]
        fn garbage_never_panics(input in prop::collection::vec(any::<u8>(), 0..400)) {
            drop(parse(&input));
        }

        #[test]
        fn garbage_in_a_field_never_panics(text in "\\PC*", garbage in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut input = serde_json::json!({ "hook_event_name": text }).to_string().into_bytes();
            input.pop();
            input.extend(b",\"tool_input\":");
            input.extend(garbage);
            if let Some(event) = parse(&input) {
                prop_assert!(event.name.chars().count() <= 64);
            }
        }
    }
}
