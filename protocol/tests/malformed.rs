//! What the two sides make of text that is not what the other meant: an error, never a guess.

use proptest::prelude::*;
use rackwright_protocol::facts::{ConfigDriveKind, FinalBoot, ImageFormat, ReadBack, RootDevice, WipedDisk};
use rackwright_protocol::plan::{Action, ConfigDrive, Deploy, Image, Plan, SignedPlan};
use rackwright_protocol::report::{Event, Report, SessionRequest, SessionResponse};
use rackwright_protocol::{Subject, token};
use serde_json::{Value, json};

fn plan() -> Plan {
    Plan {
        host_uid: "host".into(),
        operation_id: "op".into(),
        boot_macs: vec!["52:54:00:00:00:01".into()],
        issued_at: "2026-01-01T00:00:00Z".parse().expect("a time"),
        deadline: "2026-01-01T00:10:00Z".parse().expect("a time"),
        action: Action::Deploy(Deploy {
            image: Image { url: "http://images/a".into(), digest: "sha256:00".into(), format: ImageFormat::RawZst },
            root_device: Some(RootDevice { serial: Some("S1".into()), ..RootDevice::default() }),
            config_drive: ConfigDrive {
                kind: ConfigDriveKind::OpenStack,
                user_data: "u".into(),
                meta_data: "{}".into(),
            },
            final_boot: FinalBoot::Kexec,
            read_back: ReadBack::Whole,
        }),
    }
}

fn open(text: &str) -> Result<Plan, String> {
    let signed = json!({"plan": text, "signature": token::sign("token", text)});
    let signed: SignedPlan = serde_json::from_value(signed).expect("its own shape");
    signed.open("token", "host", "op").map_err(|why| why.to_string())
}

/// Pointers to every field in `value`.
fn fields(value: &Value, at: &str, found: &mut Vec<String>) {
    if let Value::Object(object) = value {
        for (key, inner) in object {
            let at = format!("{at}/{key}");
            fields(inner, &at, found);
            found.push(at);
        }
    }
}

/// Fields that older boot services do not send, or that mean "no wish" when they are not there.
const OPTIONAL: [&str; 5] = [
    "/action/rootDevice",
    "/action/rootDevice/serial",
    "/action/configDrive/kind",
    "/action/finalBoot",
    "/action/readBack",
];

#[test]
fn a_plan_without_one_of_its_fields_or_with_another_kind_of_value_is_malformed() {
    let whole = serde_json::to_value(plan()).expect("JSON");
    assert_eq!(open(&whole.to_string()), Ok(plan()));
    let mut all = Vec::new();
    fields(&whole, "", &mut all);
    assert!(all.len() > 15, "{all:?}");
    for field in &all {
        let (parent, key) = field.rsplit_once('/').expect("a pointer");
        let mut without = whole.clone();
        let parent = without.pointer_mut(parent).and_then(Value::as_object_mut).expect("its object");
        parent.remove(key);
        assert_eq!(open(&without.to_string()).is_ok(), OPTIONAL.contains(&field.as_str()), "without {field}");
        for other in [json!(7), json!([]), json!({"a": 1}), json!("\u{1f}none")] {
            let mut changed = whole.clone();
            let value = changed.pointer_mut(field).expect("is there");
            let both = |is: fn(&Value) -> bool| is(value) && is(&other);
            let same_kind = both(Value::is_string) || both(Value::is_object) || both(Value::is_array);
            *value = other.clone();
            // To serde an empty list is an object without fields: no hint, and with no hint two disks are a refusal.
            let no_hint = field == "/action/rootDevice" && other == json!([]);
            // Free text stays free text, and a field that nobody knows is passed over.
            assert!(same_kind || no_hint || open(&changed.to_string()).is_err(), "{field}: {changed}");
        }
    }
}

#[test]
fn words_that_choose_what_is_done_to_a_disk_are_taken_only_as_they_are_written() {
    for (good, bad) in [("raw.zst", "raw.lz4"), ("\"deploy\"", "\"Deploy\""), ("Whole", "Some"), ("Kexec", "kexec")] {
        let text = serde_json::to_string(&plan()).expect("JSON");
        assert!(text.contains(good), "{good}");
        assert!(open(&text.replace(good, bad)).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn text_with_changed_bytes_is_the_same_plan_malformed_or_for_somebody_else(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = serde_json::to_vec(&plan()).expect("JSON");
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(opened) = open(&text) {
            prop_assert!(matches!(opened.action, Action::Deploy(_)));
        }
        // Not signed over this text: refused whatever it says.
        let signed: SignedPlan = serde_json::from_value(json!({"plan": text, "signature": "00"})).expect("its shape");
        prop_assert!(signed.open("token", "host", "op").is_err());
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in "\\PC{0,300}") {
        let _either = serde_json::from_str::<Report>(&text);
        let _either = serde_json::from_str::<SessionRequest>(&text);
        let _either = serde_json::from_str::<SessionResponse>(&text);
        prop_assert!(open(&text).is_err());
    }

    #[test]
    fn a_report_arrives_as_it_was_sent(step in "\\PC{0,40}", percent: u8, rate: Option<u64>, lines: Vec<String>) {
        let subject =
            Subject { namespace: "n".into(), host: "h".into(), host_uid: "u".into(), operation_id: "o".into() };
        let disk = WipedDisk { device: step.clone(), method: "discard".into(), seconds: Some(3), ..WipedDisk::default() };
        for event in [
            Event::Progress { step: step.clone(), percent, bytes_per_second: rate },
            Event::Log { lines: lines.clone() },
            Event::Wiped { disks: vec![disk.clone()] },
            Event::Failed { reason: step.clone(), message: step.clone(), wiped: vec![disk.clone()] },
        ] {
            let report = Report { subject: subject.clone(), event };
            let text = serde_json::to_string(&report).expect("JSON");
            prop_assert_eq!(serde_json::from_str::<Report>(&text).expect("reads"), report);
        }
    }
}
