//! The boot service and the real agent, over TLS.

mod support;

use axum::Router;
use axum::routing::get;
use jiff::{SignedDuration, Timestamp};
use rackwright_agent::Outcome;
use rackwright_api::hardware::{Disk, HostHardwareSpec};
use rackwright_api::host::OperationKind::{Deploy, Inspect, Wipe};
use rackwright_api::host::{AgentStep, BootWay, Ramdisk, StaticNetwork};
use rackwright_boot::{KeepLogs, Media, Plain, Reason, Service, StoreError, Throttle, plain_router, router};
use rackwright_protocol::report::{Event, Report};
use rackwright_protocol::token::Purpose;
use std::sync::Arc;
use std::time::Duration;
use support::host::{MAC, NAME, NAMESPACE, OPERATION, UID, host, host_with_session, operation, status, subject};
use support::images::Serve;
use support::machine::FakeMachine;
use support::{Bed, USER_DATA, answer, image, refused};

fn reason(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Done => "Done",
        Outcome::Failed(failure) | Outcome::NotStarted(failure) | Outcome::Over(failure) => &failure.reason,
    }
}

#[tokio::test]
async fn a_deployment_ends_with_the_image_the_user_data_and_two_writes() {
    let bed = Bed::of(Deploy).await;
    let image = image(3 << 20);
    let _images = bed.image(&image, &[Serve::Break(1 << 20)]).await;
    let mut machine = FakeMachine::new();
    assert_eq!(bed.boot(&mut machine).await, Outcome::Done);
    assert_eq!(machine.content(image.len()), image);
    let drive = machine.drive.expect("a config drive");
    assert_eq!(drive.user_data, USER_DATA);
    assert!(drive.meta_data.contains("\"local-hostname\":\"web-1\""), "{}", drive.meta_data);
    let host = bed.store.host();
    let deployed = host.spec.deployed.as_ref().expect("recorded");
    assert_eq!((deployed.operation_id.as_str(), deployed.device.as_str()), (OPERATION, "/dev/vda"));
    assert!(host.spec.is_deployed());
    assert_eq!(bed.store.state().writes, ["agent", "results"]);
}

#[tokio::test]
async fn an_image_comes_from_an_https_server_that_the_media_vouches_for() {
    let bed = Bed::of(Deploy).await;
    let image = image(70_000);
    let served = image.clone();
    let url = bed.tls.serve(Router::new().route("/disk.raw", get(async || served))).await;
    bed.claim_image(&format!("{url}/disk.raw"), &image);
    assert_eq!(bed.boot(&mut FakeMachine::new()).await, Outcome::Done);
}

#[tokio::test]
async fn an_inspection_ends_with_hardware() {
    let bed = Bed::of(Inspect).await;
    let mut machine = FakeMachine::new();
    assert_eq!(bed.boot(&mut machine).await, Outcome::Done);
    let hardware = bed.store.state().hardware.clone().expect("recorded");
    assert_eq!((hardware.operation_id.as_str(), hardware.facts), (OPERATION, machine.facts));
    assert_eq!(bed.store.state().writes, ["agent", "hardware"]);
}

#[tokio::test]
async fn a_wipe_ends_with_evidence() {
    let bed = Bed::of(Wipe).await;
    let mut machine = FakeMachine::new();
    assert_eq!(bed.boot(&mut machine).await, Outcome::Done);
    assert_eq!(machine.acts(), ["wipe /dev/vda Discard"]);
    let host = bed.store.host();
    assert!(!host.spec.needs_wipe());
    assert_eq!(host.spec.wiped.map(|wiped| wiped.disks.len()), Some(1));
}

#[tokio::test]
async fn a_wipe_of_a_machine_from_which_a_disk_was_taken_vouches_for_nothing() {
    let bed = Bed::of(Wipe).await;
    let mut machine = FakeMachine::new();
    let mut facts = machine.facts.clone();
    facts.disks.push(Disk { device: "/dev/vdb".into(), serial: Some("TAKEN".into()), ..Disk::default() });
    let hardware = HostHardwareSpec { operation_id: "op-0".into(), inspected_at: Timestamp::UNIX_EPOCH, facts };
    bed.store.state().hardware = Some(hardware);
    assert_eq!(reason(&bed.boot(&mut machine).await), "DiskMissing");
    assert_eq!(machine.acts(), ["wipe /dev/vda Discard"]);
    assert!(bed.store.host().spec.wiped.is_none());
    assert_eq!(bed.store.failure().as_deref(), Some("DiskMissing"));
}

#[tokio::test]
async fn a_token_opens_one_session() {
    let bed = Bed::of(Deploy).await;
    assert!(bed.ask_session(&bed.request()).await.is_ok());
    assert_eq!(bed.ask_session(&bed.request()).await.err(), Some((409, "TokenUsed".into())));
    let mut machine = FakeMachine::new();
    let outcome = bed.boot(&mut machine).await;
    assert_eq!((reason(&outcome), machine.acts().len()), ("TokenUsed", 0));
}

#[tokio::test]
async fn a_token_is_of_no_use_for_another_host_or_operation() {
    let bed = Bed::of(Deploy).await;
    let with = |edit: fn(&mut rackwright_protocol::Subject)| {
        let mut request = bed.request();
        edit(&mut request.subject);
        request
    };
    for (request, expected) in [
        (with(|subject| subject.host_uid = "other".into()), (401, "TokenInvalid")),
        (with(|subject| subject.operation_id = "op-2".into()), (401, "TokenInvalid")),
        (with(|subject| subject.host = "a01-u08".into()), (410, "HostGone")),
        (with(|subject| subject.namespace = "other".into()), (410, "HostGone")),
    ] {
        let refusal = bed.ask_session(&request).await.err();
        assert_eq!(refusal, Some((expected.0, expected.1.into())), "{:?}", request.subject);
    }
    assert_eq!(bed.store.state().writes, [""; 0]);
}

#[tokio::test]
async fn media_and_token_of_an_earlier_operation_are_of_no_use() {
    let bed = Bed::of(Deploy).await;
    let (url, request) = (bed.media_url(), bed.request());
    operation(bed.store.state().host.as_mut().expect("there")).id = "op-2".into();
    assert_eq!(bed.client.get(url).send().await.expect("answers").status(), 404);
    assert_eq!(bed.ask_session(&request).await.err(), Some((410, "OperationOver".into())));
}

#[tokio::test]
async fn a_stranger_gets_the_same_answer_whatever_he_asks_for() {
    let bed = Bed::of(Deploy).await;
    let media = bed.key.secret(Purpose::Media, UID, OPERATION);
    let token = bed.key.secret(Purpose::Token, UID, OPERATION);
    let earlier = bed.key.secret(Purpose::Media, UID, "op-0");
    for path in [
        format!("{NAMESPACE}/{NAME}/{OPERATION}/{token}.img"),
        format!("{NAMESPACE}/{NAME}/{OPERATION}/AAAA.img"),
        format!("{NAMESPACE}/{NAME}/{OPERATION}/.img"),
        format!("{NAMESPACE}/{NAME}/{OPERATION}/{media}"),
        format!("{NAMESPACE}/{NAME}/op-0/{earlier}.img"),
        format!("{NAMESPACE}/{NAME}/op-0/{media}.img"),
        format!("{NAMESPACE}/other/{OPERATION}/{media}.img"),
        format!("other/{NAME}/{OPERATION}/{media}.img"),
        format!("{NAMESPACE}/..%2F{NAME}/{OPERATION}/{media}.img"),
    ] {
        let response = bed.client.get(format!("{}/media/{path}", bed.url)).send().await.expect("answers");
        let answer = (response.status().as_u16(), response.text().await.expect("text"));
        assert_eq!(answer, (404, String::new()), "{path}");
    }
}

#[tokio::test]
async fn media_is_read_in_ranges_and_asked_about() {
    let bed = Bed::of(Deploy).await;
    let url = bed.media_url();
    let whole = bed.client.get(&url).send().await.expect("answers").bytes().await.expect("bytes");
    assert_eq!(whole.len(), 65536);
    let head = bed.client.head(&url).send().await.expect("answers");
    assert_eq!((head.status().as_u16(), &head.headers()["content-length"]), (200, &"65536".parse().expect("a header")));
    for (range, status, content_range, bytes) in [
        ("bytes=0-9", 206, Some("bytes 0-9/65536"), &whole[..10]),
        ("bytes=-4", 206, Some("bytes 65532-65535/65536"), &whole[65532..]),
        ("bytes=65536-", 416, Some("bytes */65536"), &[]),
        ("bytes=0-1,4-5", 200, None, &whole[..]),
    ] {
        let response = bed.client.get(&url).header("range", range).send().await.expect("answers");
        let told = response.headers().get("content-range").map(|header| header.to_str().expect("text").to_string());
        assert_eq!((response.status().as_u16(), told.as_deref()), (status, content_range), "{range}");
        assert_eq!(response.bytes().await.expect("bytes"), bytes, "{range}");
    }
    let conditional = bed.client.get(&url).header("range", "bytes=0-9").header("if-range", "\"x\"");
    assert_eq!(conditional.send().await.expect("answers").status(), 200);
}

#[tokio::test]
async fn the_wrong_machine_gets_nothing_and_the_manager_learns_of_it() {
    let bed = Bed::of(Deploy).await;
    let mut machine = FakeMachine::new();
    machine.facts.nics[0].mac = "52:54:00:00:00:99".into();
    let outcome = bed.boot(&mut machine).await;
    assert_eq!((reason(&outcome), machine.acts().len()), ("WrongMachine", 0));
    assert_eq!(bed.store.failure().as_deref(), Some("WrongMachine"));
}

#[tokio::test]
async fn another_image_than_the_claimed_one_is_a_failure_and_nothing_is_deployed() {
    let bed = Bed::of(Deploy).await;
    let images = bed.image(&image(2 << 20), &[]).await;
    bed.claim_image(&images.url, b"another image");
    let mut machine = FakeMachine::new();
    assert_eq!(reason(&bed.boot(&mut machine).await), "ImageDigestMismatch");
    assert_eq!(bed.store.failure().as_deref(), Some("ImageDigestMismatch"));
    assert_eq!(bed.store.host().spec.deployed, None);
    assert!(machine.is_unbootable());
}

#[tokio::test]
async fn missing_user_data_is_a_failure_that_the_manager_sees_at_once() {
    let bed = Bed::of(Deploy).await;
    bed.store.state().secrets.clear();
    let mut machine = FakeMachine::new();
    assert_eq!(reason(&bed.boot(&mut machine).await), "UserDataMissing");
    assert_eq!(bed.store.failure().as_deref(), Some("UserDataMissing"));
    assert_eq!(machine.acts(), [""; 0]);
}

#[tokio::test]
async fn of_two_replicas_with_the_same_view_one_hands_out_the_plan() {
    let bed = Bed::of(Deploy).await;
    let host = bed.store.host();
    bed.store.state().lagging = Some(Some(host));
    let replica = bed.replica();
    assert!(bed.service.open_session(&bed.request(), "peer").await.is_ok());
    let refusal = replica.open_session(&bed.request(), "peer").await.err().expect("refused");
    assert_eq!(refusal.reason, Reason::TokenUsed);
}

#[tokio::test]
async fn of_many_at_the_same_time_one_gets_the_plan() {
    let bed = Bed::of(Deploy).await;
    let replicas: Vec<_> = (0..20).map(|_| bed.replica()).collect();
    let request = bed.request();
    let answers =
        futures::future::join_all(replicas.iter().map(|replica| replica.open_session(&request, "peer"))).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert_eq!(bed.store.state().writes, ["agent"]);
}

#[tokio::test]
async fn an_operation_that_the_cache_does_not_show_yet_is_served() {
    let bed = Bed::of(Deploy).await;
    let mut before = bed.store.host();
    status(&mut before).operation = None;
    for lagging in [Some(before), None] {
        bed.store.state().lagging = Some(lagging);
        let _images = bed.image(&image(1000), &[]).await;
        assert_eq!(bed.boot(&mut FakeMachine::new()).await, Outcome::Done);
        let mut state = bed.store.state();
        let host = state.host.as_mut().expect("there");
        status(host).agent = None;
        host.spec.deployed = None;
    }
}

#[tokio::test]
async fn a_token_is_not_used_up_while_the_store_does_not_answer() {
    let bed = Bed::of(Wipe).await;
    bed.store.state().errors = vec![StoreError::Unavailable("etcd".into()); 4];
    assert_eq!(bed.boot(&mut FakeMachine::new()).await, Outcome::Done);
    assert_eq!(bed.store.state().writes, ["agent", "results"]);
}

#[tokio::test]
async fn a_report_survives_conflicts_and_a_store_that_is_away() {
    let bed = Bed::of(Wipe).await;
    let session = bed.ask_session(&bed.request()).await.expect("opens").session;
    let event = Event::Failed { reason: "WipeFailed".into(), message: "stuck".into(), wiped: Vec::new() };
    let report = Report { subject: subject(), event };
    bed.store.state().errors = vec![StoreError::Conflict; 3];
    assert_eq!(bed.send_report(&session, &report).await, Ok(()));
    assert_eq!(bed.store.failure().as_deref(), Some("WipeFailed"));
    assert_eq!(bed.send_report(&session, &report).await, Ok(()), "the same report again is known");
}

#[tokio::test]
async fn a_report_that_the_api_server_refuses_ends_the_operation() {
    let bed = Bed::of(Inspect).await;
    let session = bed.ask_session(&bed.request()).await.expect("opens").session;
    bed.store.state().errors = vec![StoreError::Invalid("too many disks".into())];
    let report = Report { subject: subject(), event: Event::Inspected { facts: Default::default() } };
    assert_eq!(bed.send_report(&session, &report).await, refused(422, "ReportInvalid"));
    assert_eq!(bed.store.failure().as_deref(), Some("ReportInvalid"));
}

#[tokio::test]
async fn a_report_without_the_session_is_refused() {
    let bed = Bed::of(Wipe).await;
    bed.ask_session(&bed.request()).await.expect("opens");
    let report = Report { subject: subject(), event: Event::Wiped { disks: vec![] } };
    assert_eq!(bed.send_report("guess", &report).await, refused(401, "SessionInvalid"));
    let bare = bed.client.post(format!("{}/v1/report", bed.url)).json(&report).send().await.expect("answers");
    assert_eq!(answer(bare).await, refused(401, "SessionInvalid"));
    assert!(bed.store.host().spec.needs_wipe());
}

#[tokio::test]
async fn work_on_an_operation_that_is_over_ends_quietly() {
    let bed = Bed::of(Wipe).await;
    let session = bed.ask_session(&bed.request()).await.expect("opens").session;
    let report = Report { subject: subject(), event: Event::Wiped { disks: vec![] } };
    operation(bed.store.state().host.as_mut().expect("there")).id = "op-2".into();
    assert_eq!(bed.send_report(&session, &report).await, refused(410, "OperationOver"));
    bed.store.state().host = None;
    assert_eq!(bed.send_report(&session, &report).await, refused(410, "HostGone"));
}

#[tokio::test]
async fn progress_is_written_no_more_often_than_wanted() {
    for (interval, written) in [(Duration::ZERO, true), (Duration::from_secs(60), false)] {
        let bed = Bed::with(host(Deploy, Timestamp::now()), interval).await;
        let session = bed.ask_session(&bed.request()).await.expect("opens").session;
        for percent in [10, 10, 20] {
            let event = Event::Progress { step: "WritingImage".into(), percent, bytes_per_second: None };
            assert_eq!(bed.send_report(&session, &Report { subject: subject(), event }).await, Ok(()));
        }
        let writes = if written { vec!["agent", "agent", "agent"] } else { vec!["agent"] };
        assert_eq!(bed.store.state().writes, writes);
        let agent = bed.store.host().status.and_then(|status| status.agent).expect("called");
        assert_eq!(agent.percent, written.then_some(20));
    }
}

#[tokio::test]
async fn that_an_agent_is_alive_is_written_when_nothing_else_was_for_two_minutes() {
    for (minutes, writes) in [(1, &[][..]), (3, &["agent"])] {
        let (now, session) = (Timestamp::now(), "session");
        let heard = now - SignedDuration::from_mins(minutes);
        let mut host = host_with_session(Wipe, session, heard);
        let agent = status(&mut host).agent.as_mut().expect("opened");
        (agent.step, agent.percent) = (Some("Wiping".into()), Some(7));
        agent.steps = vec![AgentStep { step: "Wiping".into(), since: heard }];
        let bed = Bed::with(host, Duration::from_secs(3600)).await;
        let event = Event::Progress { step: "Wiping".into(), percent: 7, bytes_per_second: None };
        assert_eq!(bed.send_report(session, &Report { subject: subject(), event }).await, Ok(()));
        assert_eq!(bed.store.state().writes, writes, "heard {minutes} minutes ago");
        let heard_at = bed.store.host().status.and_then(|status| status.agent?.heard_at).expect("is told");
        assert_eq!(heard_at >= now, !writes.is_empty());
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_of_unknown_size_or_nonsense_is_refused() {
    let bed = Bed::of(Wipe).await;
    let post = |path: &str| bed.client.post(format!("{}{path}", bed.url)).bearer_auth("x");
    let send = async |request: reqwest::RequestBuilder| answer(request.send().await.expect("answers")).await;
    assert_eq!(send(post("/v1/report").body(vec![b' '; (1 << 20) + 1])).await, refused(413, "BodyTooLarge"));
    assert_eq!(send(post("/v1/session").body(vec![b' '; (64 << 10) + 1])).await, refused(413, "BodyTooLarge"));
    assert_eq!(send(post("/v1/report").body("{}")).await, refused(400, "BodyInvalid"));
    assert_eq!(send(post("/v1/session").body("[1]")).await, refused(400, "BodyInvalid"));
    let unknown = reqwest::Body::wrap_stream(futures::stream::iter([Ok::<_, std::io::Error>("{}")]));
    assert_eq!(send(post("/v1/report").body(unknown)).await, refused(411, "LengthRequired"));
}

#[tokio::test]
async fn without_a_key_or_caches_hosts_are_told_to_ask_again() {
    let bed = Bed::of(Wipe).await;
    let get = async |url: String| bed.client.get(url).send().await.expect("answers").status().as_u16();
    assert_eq!((get(format!("{}/healthz", bed.url)).await, get(format!("{}/readyz", bed.url)).await), (200, 200));
    bed.store.state().ready = false;
    assert_eq!((get(format!("{}/healthz", bed.url)).await, get(format!("{}/readyz", bed.url)).await), (200, 503));

    let keyless = Service::new(bed.store.clone(), &bed.tls.ca, Media::Bare, Throttle::new(Duration::ZERO));
    let url = bed.tls.serve(router(Arc::new(keyless))).await;
    assert_eq!(get(format!("{url}/readyz")).await, 503);
    assert_eq!(get(bed.media_url().replace(&bed.url, &url)).await, 503);
    let session = bed.client.post(format!("{url}/v1/session")).json(&bed.request()).send().await.expect("answers");
    assert_eq!(answer(session).await, refused(503, "Unavailable"));
}

#[tokio::test]
async fn an_agents_log_is_kept_when_it_fails_and_else_only_if_wanted() {
    let failed = || Event::Failed { reason: "WipeFailed".into(), message: "stuck".into(), wiped: Vec::new() };
    let done = || Event::Wiped { disks: vec![] };
    for (keep, event, outcome) in [
        (KeepLogs::Failures, failed(), Some("WipeFailed")),
        (KeepLogs::Failures, done(), None),
        (KeepLogs::Always, done(), Some("Done")),
    ] {
        let bed = Bed::of(Wipe).await;
        let replica = bed.replica().keeping_logs(keep);
        let session = replica.open_session(&bed.request(), "peer").await.expect("opens").session;
        let report = |event| Report { subject: subject(), event };
        let log = |line: &str| report(Event::Log { lines: vec![line.into()] });
        replica.take_report(&session, &log("[1.0] one")).await.expect("taken");
        assert!(replica.take_report("guess", &log("[1.5] a stranger's")).await.is_err());
        replica.take_report(&session, &log("[2.0] two")).await.expect("taken");
        replica.take_report(&session, &report(event.clone())).await.expect("taken");
        replica.take_report(&session, &report(event)).await.expect("taken again");
        let kept: Vec<_> = bed.store.state().logs.iter().map(|log| (log.outcome.clone(), log.text.clone())).collect();
        let expected = outcome.map(|outcome| (outcome.to_string(), "[1.0] one\n[2.0] two\n".to_string()));
        assert_eq!(kept, expected.into_iter().collect::<Vec<_>>());
        assert_eq!(bed.store.state().writes.len(), 2, "a log is no write of the Host");
    }
}

#[tokio::test]
async fn the_log_of_an_agent_that_was_cut_off_is_kept_when_the_next_one_calls() {
    let bed = Bed::of(Wipe).await;
    let session = bed.ask_session(&bed.request()).await.expect("opens").session;
    let event = Event::Log { lines: vec!["[1.0] about to hang".into()] };
    assert_eq!(bed.send_report(&session, &Report { subject: subject(), event }).await, Ok(()));
    operation(bed.store.state().host.as_mut().expect("there")).id = "op-2".into();
    let mut request = bed.request();
    request.subject.operation_id = "op-2".into();
    request.token = bed.key.secret(Purpose::Token, UID, "op-2");
    bed.ask_session(&request).await.expect("opens");
    let logs = bed.store.state().logs.clone();
    assert_eq!(logs.len(), 1);
    assert_eq!((logs[0].operation_id.as_str(), logs[0].outcome.as_str()), (OPERATION, "Replaced"));
}

#[tokio::test]
async fn the_steps_of_an_agent_stand_in_the_status_even_those_that_came_too_fast() {
    let bed = Bed::with(host(Wipe, Timestamp::now()), Duration::from_millis(300)).await;
    let session = bed.ask_session(&bed.request()).await.expect("opens").session;
    for (step, pause) in [("Inspecting", 0), ("WipingDisks", 310), ("CheckingDisks", 0)] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let event = Event::Progress { step: step.into(), percent: 1, bytes_per_second: None };
        assert_eq!(bed.send_report(&session, &Report { subject: subject(), event }).await, Ok(()));
    }
    let steps = |host: rackwright_api::Host| {
        let agent = host.status.and_then(|status| status.agent).expect("called");
        agent.steps.into_iter().map(|step| step.step).collect::<Vec<_>>()
    };
    assert_eq!(steps(bed.store.host()), ["Inspecting", "WipingDisks"]);
    let event = Event::Failed { reason: "WipeFailed".into(), message: "stuck".into(), wiped: Vec::new() };
    assert_eq!(bed.send_report(&session, &Report { subject: subject(), event }).await, Ok(()));
    assert_eq!(steps(bed.store.host()), ["Inspecting", "WipingDisks", "CheckingDisks"]);
}

#[tokio::test]
async fn media_says_what_the_host_wants_of_its_ramdisk() {
    let bed = Bed::of(Inspect).await;
    let media = bed.media().await;
    assert_eq!((media.boot_mac.as_deref(), media.network, media.rescue_shell), (Some(MAC), None, false));
    let began_at = operation(bed.store.state().host.as_mut().expect("there")).started_at;
    assert_eq!(media.began_at, Some(began_at));
    let network = StaticNetwork { address: "10.1.0.7/24".into(), ..StaticNetwork::default() };
    let ramdisk = Ramdisk { network: Some(network.clone()), rescue_shell: true };
    bed.store.state().host.as_mut().expect("there").spec.ramdisk = Some(ramdisk);
    let media = bed.media().await;
    assert_eq!((media.network, media.rescue_shell), (Some(network), true));
}

#[tokio::test]
async fn a_tag_of_media_is_good_for_a_range_on_every_replica_until_the_operation_changes() {
    let bed = Bed::of(Deploy).await;
    let replica = bed.tls.serve(router(Arc::new(bed.replica()))).await;
    let url = bed.media_url();
    let head = bed.client.head(&url).send().await.expect("answers");
    let tag = head.headers()["etag"].to_str().expect("text").to_string();
    let ask = async |url: String| {
        let request = bed.client.get(url).header("range", "bytes=0-9").header("if-range", &tag);
        request.send().await.expect("answers").status().as_u16()
    };
    assert_eq!(ask(url.clone()).await, 206);
    assert_eq!(ask(url.replace(&bed.url, &replica)).await, 206);
    operation(bed.store.state().host.as_mut().expect("there")).id = "op-2".into();
    assert_eq!(ask(url.replace(OPERATION, "op-2")).await, 404, "another operation has another secret");
}

#[tokio::test]
async fn an_expired_token_opens_nothing_and_says_so() {
    let bed = Bed::of(Deploy).await;
    operation(bed.store.state().host.as_mut().expect("there")).deadline = Timestamp::now();
    assert_eq!(bed.ask_session(&bed.request()).await.err(), Some((410, "Expired".into())));
    assert_eq!(bed.client.get(bed.media_url()).send().await.expect("answers").status(), 404);
}

#[tokio::test]
async fn the_script_for_a_network_card_is_to_be_had_while_its_host_boots_and_leads_to_its_media() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut initrd = rackwright_protocol::media::MAGIC.to_vec();
    initrd.resize(80_000, 0);
    std::fs::write(folder.path().join("vmlinuz-amd64"), "kernel").expect("writable");
    std::fs::write(folder.path().join("initrd-amd64"), initrd).expect("writable");
    let bed = Bed::of(Deploy).await;
    let media = Media::open(folder.path()).expect("a ramdisk");
    let service = Service::new(bed.store.clone(), &bed.tls.ca, media, Throttle::new(Duration::ZERO));
    service.set_key(bed.key.clone());
    let service = Arc::new(service);
    let (with, without) = (plain_router(service.clone(), Plain::Pxe), plain_router(service.clone(), Plain::Images));
    let media_only = bed.tls.serve(plain_router(service, Plain::Media)).await;
    let (with, without) = (bed.tls.serve(with).await, bed.tls.serve(without).await);
    let get = async |base: &str, path: &str| {
        let response = bed.client.get(format!("{base}{path}")).send().await.expect("answers");
        (response.status().as_u16(), response.bytes().await.expect("bytes"))
    };
    let script = format!("/pxe/{}.ipxe", MAC.to_uppercase());
    assert_eq!(get(&with, &script).await.0, 404, "not by way of PXE");
    operation(bed.store.state().host.as_mut().expect("there")).way = Some(BootWay::PXE);
    assert_eq!(get(&without, &script).await.0, 404, "not wanted");
    assert_eq!(get(&with, "/pxe/52:54:00:00:00:99.ipxe").await.0, 404, "another machine");
    let (status, text) = get(&with, &script).await;
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(status == 200 && text.starts_with("#!ipxe\nkernel /media/"), "{text}");
    let path = |ending: &str| text.split_whitespace().find(|word| word.ends_with(ending)).expect("named").to_string();
    assert_eq!(get(&with, &path(".kernel")).await, (200, "kernel".into()));
    let (status, initrd) = get(&with, &path(".initrd")).await;
    let config = rackwright_protocol::media::read(&initrd).expect("the host's own");
    assert_eq!((status, config.subject), (200, subject()));
    assert_eq!(get(&without, &path(".kernel")).await.0, 404, "media is not served without TLS unless that is wanted");
    assert_eq!((get(&media_only, &path(".kernel")).await.0, get(&media_only, &script).await.0), (200, 404));
    bed.ask_session(&bed.request()).await.expect("opens");
    assert_eq!(get(&with, &script).await.0, 404, "its agent has called home");
}
