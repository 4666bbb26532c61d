use super::*;
use crate::hardware::Hardware;
use crate::machine::{Enabled, Override, Reset, Target, Timing};
use serde_json::json;

const ACCOUNT: Account = Account { username: "admin", password: "secret" };
const SYSTEM: &str = "/redfish/v1/Systems/1";
const RESET: &str = "/redfish/v1/Systems/1/Actions/ComputerSystem.Reset";
const SLOT: &str = "/redfish/v1/Managers/1/VirtualMedia/Cd";
const INSERT: &str = "/redfish/v1/Managers/1/VirtualMedia/Cd/Actions/VirtualMedia.InsertMedia";
const EJECT: &str = "/redfish/v1/Managers/1/VirtualMedia/Cd/Actions/VirtualMedia.EjectMedia";
const SESSIONS: &str = "/redfish/v1/SessionService/Sessions";

struct Bench {
    spec: Spec,
    machine: Machine,
    sessions: Sessions,
    effects: Vec<Effect>,
}

impl Bench {
    fn new() -> Bench {
        let spec = Spec::new(9, "rack-a", 1, 1, &Hardware::default());
        let machine = Machine::new(&spec, Timing::default());
        Bench { spec, machine, sessions: Sessions::default(), effects: Vec::new() }
    }

    fn send(&mut self, request: Request<Bytes>) -> Reply {
        let Bench { spec, machine, sessions, .. } = self;
        let now = Timestamp::UNIX_EPOCH;
        let mut service = Service { spec, machine, sessions, account: ACCOUNT, now, effects: Vec::new() };
        let reply = service.answer(&request);
        self.effects = service.effects;
        reply
    }

    fn ask(&mut self, method: Method, path: &str, headers: &[(&str, &str)], body: Value) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        self.send(request.header("content-type", "application/json").body(body).expect("a request"))
    }

    fn as_admin(&mut self, method: Method, path: &str, body: Value) -> Reply {
        let basic = format!("Basic {}", STANDARD.encode("admin:secret"));
        self.ask(method, path, &[("authorization", &basic)], body)
    }

    fn get(&mut self, path: &str) -> Value {
        document(&self.as_admin(Method::GET, path, Value::Null))
    }

    fn with_etag(&mut self, etag: &str, body: Value) -> Reply {
        let basic = format!("Basic {}", STANDARD.encode("admin:secret"));
        self.ask(Method::PATCH, SYSTEM, &[("authorization", &basic), ("if-match", etag)], body)
    }
}

fn document(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap_or_else(|why| panic!("{why}: {:?}", reply.body))
}

fn message_id(reply: &Reply) -> String {
    let id = document(reply)["error"]["@Message.ExtendedInfo"][0]["MessageId"].clone();
    id.as_str().and_then(|id| id.rsplit('.').next()).unwrap_or_default().to_string()
}

fn etag_of(reply: &Reply) -> String {
    reply.headers["etag"].to_str().expect("text").to_string()
}

fn boot(target: &str, enabled: &str) -> Value {
    json!({"Boot": {"BootSourceOverrideTarget": target, "BootSourceOverrideEnabled": enabled}})
}

#[test]
fn every_link_leads_to_a_document_that_says_who_it_is() {
    let mut bench = Bench::new();
    let mut to_visit = vec!["/redfish/v1/".to_string()];
    let mut visited = Vec::new();
    while let Some(uri) = to_visit.pop() {
        if visited.contains(&uri) {
            continue;
        }
        let document = bench.get(&uri);
        assert_eq!(document["@odata.id"], json!(uri));
        assert!(document["@odata.type"].as_str().is_some_and(|kind| kind.starts_with('#')), "{uri}");
        assert!(document["Name"].is_string(), "{uri}");
        collect_links(&document, &mut to_visit);
        visited.push(uri);
    }
    assert_eq!(visited.len(), 21, "{visited:?}");
}

fn collect_links(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("@odata.id").and_then(Value::as_str).map(str::to_string));
            members.values().for_each(|member| collect_links(member, found));
        }
        Value::Array(members) => members.iter().for_each(|member| collect_links(member, found)),
        _ => {}
    }
}

#[test]
fn only_the_root_is_open_to_everybody() {
    let mut bench = Bench::new();
    assert_eq!(bench.ask(Method::GET, "/redfish/v1/", &[], Value::Null).status, StatusCode::OK);
    let refused = bench.ask(Method::GET, SYSTEM, &[], Value::Null);
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert!(refused.headers.contains_key("www-authenticate"));
    // What does not exist is not told to strangers either.
    assert_eq!(bench.ask(Method::GET, "/redfish/v1/Nothing", &[], Value::Null).status, StatusCode::UNAUTHORIZED);
}

#[test]
fn a_session_opens_with_the_password_holds_and_ends() {
    let mut bench = Bench::new();
    let account = json!({"UserName": "admin", "Password": "secret"});
    let created = bench.ask(Method::POST, SESSIONS, &[], account.clone());
    assert_eq!(created.status, StatusCode::CREATED);
    let members = format!("{SESSIONS}/Members");
    assert_eq!(bench.ask(Method::POST, &members, &[], account).status, StatusCode::CREATED);
    let token = created.headers["x-auth-token"].to_str().expect("text").to_string();
    let place = created.headers["location"].to_str().expect("text").to_string();
    let headers = [("x-auth-token", token.as_str())];
    assert_eq!(bench.ask(Method::GET, SYSTEM, &headers, Value::Null).status, StatusCode::OK);
    assert_eq!(bench.ask(Method::DELETE, &place, &headers, Value::Null).status, StatusCode::NO_CONTENT);
    assert_eq!(bench.ask(Method::GET, SYSTEM, &headers, Value::Null).status, StatusCode::UNAUTHORIZED);
}

#[test]
fn a_wrong_password_opens_no_session() {
    let mut bench = Bench::new();
    let refused = bench.ask(Method::POST, SESSIONS, &[], json!({"UserName": "admin", "Password": "guess"}));
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert!(!String::from_utf8_lossy(&refused.body).contains("guess"));
}

#[test]
fn sessions_are_limited() {
    let mut bench = Bench::new();
    let account = json!({"UserName": "admin", "Password": "secret"});
    for _ in 0..session::SESSIONS_MAX {
        assert_eq!(bench.ask(Method::POST, SESSIONS, &[], account.clone()).status, StatusCode::CREATED);
    }
    let refused = bench.ask(Method::POST, SESSIONS, &[], account);
    assert_eq!(
        (refused.status, message_id(&refused).as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, "SessionLimitExceeded")
    );
}

#[test]
fn a_wrong_password_fault_refuses_sessions_that_were_open() {
    let mut bench = Bench::new();
    let created = bench.ask(Method::POST, SESSIONS, &[], json!({"UserName": "admin", "Password": "secret"}));
    let token = created.headers["x-auth-token"].to_str().expect("text").to_string();
    bench.machine.handle(Event::Break(Fault::WrongPassword), Timestamp::UNIX_EPOCH).expect("breaks");
    let refused = bench.ask(Method::GET, SYSTEM, &[("x-auth-token", &token)], Value::Null);
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
}

#[test]
fn reset_switches_the_machine() {
    let mut bench = Bench::new();
    assert_eq!(bench.as_admin(Method::POST, RESET, json!({"ResetType": "On"})).status, StatusCode::NO_CONTENT);
    assert_eq!(bench.get(SYSTEM)["PowerState"], "On");
    let off = bench.as_admin(Method::POST, RESET, json!({"ResetType": "ForceOff"}));
    assert_eq!(off.status, StatusCode::NO_CONTENT);
    assert_eq!(bench.effects, [Effect::PowerCut { run: 1 }]);
    assert_eq!(bench.get(SYSTEM)["PowerState"], "PoweringOff");
    let early = bench.as_admin(Method::POST, RESET, json!({"ResetType": "On"}));
    assert_eq!(early.status, StatusCode::CONFLICT);
}

#[test]
fn bad_orders_are_refused_with_the_message_that_says_why() {
    let cases = [
        (RESET, json!({"ResetType": "Explode"}), 400, "ActionParameterValueError"),
        (RESET, json!({}), 400, "ActionParameterMissing"),
        (RESET, json!({"ResetType": "On", "Force": true}), 400, "ActionParameterUnknown"),
        (RESET, json!("On"), 400, "MalformedJSON"),
        (INSERT, json!({}), 400, "ActionParameterMissing"),
        (INSERT, json!({"Image": "file:///etc/passwd"}), 400, "ActionParameterValueError"),
        (INSERT, json!({"Image": "https://boot/a.img", "Inserted": false}), 400, "ActionParameterValueError"),
        (EJECT, json!({"Now": true}), 400, "ActionParameterUnknown"),
    ];
    for (path, body, status, id) in cases {
        let mut bench = Bench::new();
        let before = bench.machine.clone();
        let reply = bench.as_admin(Method::POST, path, body.clone());
        assert_eq!((reply.status.as_u16(), message_id(&reply).as_str()), (status, id), "{body}");
        assert_eq!(bench.machine, before, "{body}");
    }
}

#[test]
fn an_image_is_in_the_drive_until_it_is_ejected_and_takes_no_other() {
    let mut bench = Bench::new();
    let insert = |name: &str| json!({"Image": format!("https://boot/{name}.img"), "Inserted": true});
    assert_eq!(bench.as_admin(Method::POST, INSERT, insert("one")).status, StatusCode::NO_CONTENT);
    assert_eq!(bench.get(SLOT)["Image"], "https://boot/one.img");
    assert_eq!(bench.as_admin(Method::POST, INSERT, insert("two")).status, StatusCode::BAD_REQUEST);
    assert_eq!(bench.get(SLOT)["Image"], "https://boot/one.img");
    for _ in 0..2 {
        assert_eq!(bench.as_admin(Method::POST, EJECT, Value::Null).status, StatusCode::NO_CONTENT);
    }
    assert_eq!(bench.get(SLOT)["Inserted"], false);
}

#[test]
fn a_patch_sets_the_boot_device_and_shows_it() {
    let mut bench = Bench::new();
    let reply = bench.as_admin(Method::PATCH, SYSTEM, boot("Cd", "Once"));
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(document(&reply)["Boot"]["BootSourceOverrideTarget"], "Cd");
    assert_eq!(bench.machine.boot(), Override { enabled: Enabled::Once, target: Target::Cd });
    bench.as_admin(Method::PATCH, SYSTEM, json!({"Boot": {"BootSourceOverrideEnabled": "Disabled"}}));
    assert_eq!(bench.machine.boot(), Override::default());
}

#[test]
fn a_patch_sets_a_url_to_boot_and_shows_it() {
    let mut bench = Bench::new();
    let uri = "https://boot/media.efi";
    let order = json!({"Boot": {"BootSourceOverrideTarget": "UefiHttp", "BootSourceOverrideEnabled": "Once", "HttpBootUri": uri}});
    let shown = document(&bench.as_admin(Method::PATCH, SYSTEM, order));
    assert_eq!(
        (&shown["Boot"]["BootSourceOverrideTarget"], &shown["Boot"]["HttpBootUri"]),
        (&json!("UefiHttp"), &json!(uri))
    );
    let shown = document(&bench.as_admin(Method::PATCH, SYSTEM, json!({"Boot": {"HttpBootUri": null}})));
    assert_eq!(shown["Boot"]["HttpBootUri"], Value::Null);
}

#[test]
fn a_bmc_without_a_drive_shows_none_and_boots_no_cd() {
    let mut bench = Bench::new();
    bench.spec.boots = vec![Target::UefiHttp];
    let slots = "/redfish/v1/Managers/1/VirtualMedia";
    assert_eq!(bench.get(slots)["Members"], json!([]));
    let insert = json!({"Image": "https://boot/media.iso"});
    assert_eq!(bench.as_admin(Method::POST, INSERT, insert).status, StatusCode::NOT_FOUND);
    assert_eq!(bench.as_admin(Method::PATCH, SYSTEM, boot("Cd", "Once")).status, StatusCode::BAD_REQUEST);
    assert_eq!(bench.as_admin(Method::PATCH, SYSTEM, boot("UefiHttp", "Once")).status, StatusCode::OK);
}

#[test]
fn a_patch_with_one_bad_part_changes_nothing() {
    let cases = [
        (boot("Usb", "Once"), 400, "PropertyValueNotInList"),
        (boot("Cd", "Sometimes"), 400, "PropertyValueNotInList"),
        (json!({"Boot": {"BootSourceOverrideTarget": 7}}), 400, "PropertyValueTypeError"),
        (json!({"Boot": {"BootOrder": []}}), 400, "PropertyUnknown"),
        (json!({"Boot": {"BootSourceOverrideMode": "Legacy"}}), 400, "PropertyValueNotInList"),
        (json!({"Boot": {"HttpBootUri": "no URL"}}), 400, "PropertyValueNotInList"),
        (json!({"Boot": {"HttpBootUri": "https://boot/x.efi", "Colour": "red"}}), 400, "PropertyUnknown"),
        (json!({"Boot": "Cd"}), 400, "PropertyValueTypeError"),
        (json!({"LocationIndicatorActive": true, "Colour": "red"}), 400, "PropertyUnknown"),
        (json!({"LocationIndicatorActive": "yes"}), 400, "PropertyValueTypeError"),
        (json!({"PowerState": "On"}), 403, "PropertyNotWritable"),
        (json!({}), 400, "MalformedJSON"),
    ];
    for (body, status, id) in cases {
        let mut bench = Bench::new();
        let before = bench.machine.clone();
        let reply = bench.as_admin(Method::PATCH, SYSTEM, body.clone());
        assert_eq!((reply.status.as_u16(), message_id(&reply).as_str()), (status, id), "{body}");
        assert_eq!(bench.machine, before, "{body}");
    }
}

#[test]
fn a_write_bound_to_an_old_etag_is_refused() {
    let mut bench = Bench::new();
    let old = etag_of(&bench.as_admin(Method::GET, SYSTEM, Value::Null));
    let weak = format!("W/{old}");
    assert_eq!(bench.with_etag(&weak, boot("Cd", "Once")).status, StatusCode::OK);
    let refused = bench.with_etag(&old, boot("Pxe", "Once"));
    assert_eq!(refused.status, StatusCode::PRECONDITION_FAILED);
    assert_eq!(bench.machine.boot().target, Target::Cd);
    assert_eq!(bench.with_etag("*", boot("None", "Disabled")).status, StatusCode::OK);
}

#[test]
fn an_unchanged_document_is_not_sent_again() {
    let mut bench = Bench::new();
    let etag = etag_of(&bench.as_admin(Method::GET, SYSTEM, Value::Null));
    let basic = format!("Basic {}", STANDARD.encode("admin:secret"));
    let headers = [("authorization", basic.as_str()), ("if-none-match", etag.as_str())];
    let reply = bench.ask(Method::GET, SYSTEM, &headers, Value::Null);
    assert_eq!((reply.status, reply.body.len()), (StatusCode::NOT_MODIFIED, 0));
}

#[test]
fn other_methods_are_refused_with_those_that_are_allowed() {
    let mut bench = Bench::new();
    for (path, allow) in [(RESET, "POST"), (SLOT, "GET, HEAD"), (SYSTEM, "GET, HEAD, PATCH")] {
        let reply = bench.as_admin(Method::PUT, path, Value::Null);
        assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(reply.headers["allow"], allow);
    }
}

#[test]
fn what_does_not_exist_is_missing() {
    let reply = Bench::new().as_admin(Method::GET, "/redfish/v1/Systems/2", Value::Null);
    assert_eq!((reply.status, message_id(&reply).as_str()), (StatusCode::NOT_FOUND, "ResourceMissingAtURI"));
}

#[test]
fn protocol_rules_hold() {
    let mut bench = Bench::new();
    let root = bench.ask(Method::GET, "/redfish/v1/", &[], Value::Null);
    assert_eq!(root.headers["odata-version"], "4.0");
    let newer = bench.ask(Method::GET, "/redfish/v1/", &[("odata-version", "4.1")], Value::Null);
    assert_eq!(newer.status, StatusCode::PRECONDITION_FAILED);
    let expand = bench.as_admin(Method::GET, "/redfish/v1/Systems?$expand=.", Value::Null);
    assert_eq!(expand.status, StatusCode::NOT_IMPLEMENTED);
    let head = bench.as_admin(Method::HEAD, SYSTEM, Value::Null);
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
    let request = Request::builder().method(Method::POST).uri(SESSIONS).header("content-type", "text/plain");
    let text = bench.send(request.body(Bytes::from_static(b"hello")).expect("a request"));
    assert_eq!(text.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[test]
fn a_bmc_that_does_not_know_the_power_says_null() {
    let mut bench = Bench::new();
    bench.machine.handle(Event::Break(Fault::UnknownPower), Timestamp::UNIX_EPOCH).expect("breaks");
    assert_eq!(bench.get(SYSTEM)["PowerState"], Value::Null);
}

#[test]
fn an_unavailable_bmc_answers_503_so_many_times() {
    let mut bench = Bench::new();
    let fault = Fault::Unavailable { requests: Some(1) };
    bench.machine.handle(Event::Break(fault), Timestamp::UNIX_EPOCH).expect("breaks");
    let mut statuses = || bench.as_admin(Method::GET, SYSTEM, Value::Null).status.as_u16();
    assert_eq!([statuses(), statuses()], [503, 200]);
}

#[test]
fn a_dead_power_supply_that_refuses_is_an_error_and_one_that_does_not_is_not() {
    for (refuses, status) in [(true, 500), (false, 204)] {
        let mut bench = Bench::new();
        let fault = Fault::PowerSupplyDead { refuses };
        bench.machine.handle(Event::Break(fault), Timestamp::UNIX_EPOCH).expect("breaks");
        let reply = bench.as_admin(Method::POST, RESET, json!({"ResetType": Reset::On}));
        assert_eq!(reply.status.as_u16(), status);
        assert_eq!(bench.get(SYSTEM)["PowerState"], "Off");
    }
}
