//! A host that is prepared before anybody claims it, and the real agent that waits on it.

mod support;

use jiff::{SignedDuration, Timestamp};
use rackwright_agent::{Outcome, run_with};
use rackwright_api::common::UidReference;
use rackwright_api::host::OperationKind::{Deploy, Prepare};
use rackwright_api::host::{Operation, Stage, WarmOrder};
use rackwright_boot::{Reason, Refusal};
use rackwright_protocol::media::{self, MediaKind};
use rackwright_protocol::report::{NextRequest, NextResponse};
use rackwright_protocol::token::Purpose;
use std::time::Duration;
use support::host::{MACHINE_UID, NAME, NAMESPACE, OPERATION, UID, host, operation, subject};
use support::images::Images;
use support::machine::FakeMachine;
use support::{Bed, USER_DATA, answer, digest, image, patience, refused};
use tokio::task::JoinHandle;

const ORDER: &str = "order-1";
const NEXT: &str = "op-2";

/// A host that is to be kept warm with `image`.
async fn ordered(image: &[u8]) -> (Bed, Images) {
    let now = Timestamp::now();
    let images = Images::serve(image.to_vec(), &[]).await;
    let mut warm = host(Prepare, now);
    let mut claimed = host(Deploy, now).spec.claim.expect("claimed").image;
    (claimed.url, claimed.digest) = (images.url.clone(), digest(image));
    warm.spec.warm = Some(WarmOrder {
        pool: UidReference { namespace: NAMESPACE.into(), name: "web".into(), uid: "pool".into() },
        id: ORDER.into(),
        image: Some(claimed),
        until: None,
    });
    operation(&mut warm).claim_uid = Some(ORDER.into());
    (Bed::with(warm, Duration::from_secs(5)).await, images)
}

/// The agent at work, and the machine when it is done.
async fn started(bed: &Bed) -> JoinHandle<(FakeMachine, Outcome)> {
    let media = bed.media().await;
    tokio::spawn(async move {
        let mut machine = FakeMachine::new();
        let outcome = run_with(&media, &mut machine, &patience()).await;
        (machine, outcome)
    })
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(holds(), "{what} did not come about");
}

async fn prepared(bed: &Bed) -> JoinHandle<(FakeMachine, Outcome)> {
    let agent = started(bed).await;
    until("prepared", || bed.store.host().status.and_then(|status| status.agent?.prepared_at).is_some()).await;
    agent
}

/// A machine claims the host for `image`, and the manager records the deployment.
fn claim(bed: &Bed, url: &str, image: &[u8], takes_over: Option<&str>) {
    let now = Timestamp::now();
    let mut state = bed.store.state();
    let found = state.host.as_mut().expect("there");
    let mut claim = host(Deploy, now).spec.claim.expect("claimed");
    (claim.image.url, claim.image.digest) = (url.into(), digest(image));
    (found.spec.claim, found.spec.warm) = (Some(claim), None);
    *operation(found) = Operation {
        id: NEXT.into(),
        kind: Deploy,
        claim_uid: Some(MACHINE_UID.into()),
        takes_over: takes_over.map(Into::into),
        stage: Stage::HandingOver,
        deadline: now + SignedDuration::from_hours(1),
        ..operation(found).clone()
    };
}

#[tokio::test]
async fn a_prepared_host_waits_and_needs_only_the_config_drive_of_its_claim() {
    let image = image(3 << 20);
    let (bed, images) = ordered(&image).await;
    let agent = prepared(&bed).await;
    assert!(bed.store.host().spec.deployed.is_none(), "nothing is deployed for anybody");
    claim(&bed, &images.url, &image, Some(OPERATION));
    let (machine, outcome) = agent.await.expect("no panic");
    assert_eq!(outcome, Outcome::Done);
    assert_eq!(images.ranges().len(), 1, "it is fetched once");
    assert_eq!(machine.content(image.len()), image);
    assert_eq!(machine.drive.as_ref().map(|drive| drive.user_data.as_str()), Some(USER_DATA));
    let host = bed.store.host();
    let deployed = host.spec.deployed.as_ref().expect("recorded");
    assert_eq!((deployed.operation_id.as_str(), deployed.claim_uid.as_str()), (NEXT, MACHINE_UID));
    assert_eq!(bed.store.state().writes, ["agent", "agent", "agent", "results"]);
}

#[tokio::test]
async fn nothing_starts_from_a_prepared_disk() {
    let image = image(3 << 20);
    let (bed, _images) = ordered(&image).await;
    let media = bed.media().await;
    let mut machine = FakeMachine::new();
    let patience = patience();
    let wait = async {
        until("prepared", || bed.store.host().status.and_then(|status| status.agent?.prepared_at).is_some()).await;
    };
    tokio::select! {
        outcome = run_with(&media, &mut machine, &patience) => panic!("{outcome:?}"),
        () = wait => {}
    }
    // The power went while it waited.
    assert!(machine.content(512).iter().all(|byte| *byte == 0), "firmware finds no boot sector");
    assert_eq!(machine.content(image.len())[2 << 20..], image[2 << 20..], "the image is there all the same");
    assert!(machine.drive.is_none());
}

#[tokio::test]
async fn a_claim_for_another_image_is_deployed_by_the_agent_that_waits() {
    let (bed, images) = ordered(&image(3 << 20)).await;
    let agent = prepared(&bed).await;
    let wanted: Vec<u8> =
        image(2 << 20).into_iter().enumerate().map(|(at, byte)| if at < 512 { byte } else { !byte }).collect();
    let others = Images::serve(wanted.clone(), &[]).await;
    claim(&bed, &others.url, &wanted, Some(OPERATION));
    let (machine, outcome) = agent.await.expect("no panic");
    assert_eq!(outcome, Outcome::Done);
    assert_eq!((images.ranges().len(), others.ranges().len()), (1, 1));
    assert_eq!(machine.content(wanted.len()), wanted);
}

#[tokio::test]
async fn an_agent_that_nobody_waits_for_any_more_stops() {
    let image = image(70_000);
    for takes_over in [None, Some("another-operation")] {
        let (bed, images) = ordered(&image).await;
        let agent = prepared(&bed).await;
        claim(&bed, &images.url, &image, takes_over);
        let (machine, outcome) = agent.await.expect("no panic");
        assert!(matches!(&outcome, Outcome::Over(why) if why.reason == "OperationOver"), "{outcome:?}");
        assert!(machine.drive.is_none() && machine.content(512).iter().all(|byte| *byte == 0));
    }
}

#[tokio::test]
async fn an_order_that_was_taken_back_is_not_prepared() {
    let (bed, _images) = ordered(&image(70_000)).await;
    bed.store.state().host.as_mut().expect("there").spec.warm = None;
    let (machine, outcome) = started(&bed).await.await.expect("no panic");
    assert!(matches!(&outcome, Outcome::NotStarted(why) if why.reason == "OperationOver"), "{outcome:?}");
    assert!(machine.acts().is_empty());
}

#[tokio::test]
async fn user_data_that_is_missing_ends_the_deployment_and_not_only_the_wait() {
    let image = image(70_000);
    let (bed, images) = ordered(&image).await;
    let agent = prepared(&bed).await;
    bed.store.state().secrets.clear();
    claim(&bed, &images.url, &image, Some(OPERATION));
    let (_, outcome) = agent.await.expect("no panic");
    assert!(matches!(&outcome, Outcome::Over(why) if why.reason == "UserDataMissing"), "{outcome:?}");
    let agent = bed.store.host().status.and_then(|status| status.agent).expect("told");
    assert_eq!((agent.operation_id.as_str(), bed.store.failure().as_deref()), (NEXT, Some("UserDataMissing")));
}

#[tokio::test]
async fn the_media_of_a_host_that_waits_are_nobodys() {
    let (bed, images) = ordered(&image(70_000)).await;
    assert_eq!(bed.client.get(bed.media_url()).send().await.expect("answers").status(), 200);
    operation(bed.store.state().host.as_mut().expect("there")).stage = Stage::Warm;
    assert_eq!(bed.client.get(bed.media_url()).send().await.expect("answers").status(), 404);
    claim(&bed, &images.url, &image(70_000), Some(OPERATION));
    let secret = bed.key.secret(Purpose::Media, UID, NEXT);
    let next = media::path(NAMESPACE, NAME, NEXT, &secret, MediaKind::Iso);
    let answer = bed.client.get(format!("{}{next}", bed.url)).send().await.expect("answers");
    assert_eq!(answer.status(), 404, "no ramdisk is started for what is handed over");
}

async fn ask(bed: &Bed, session: &str) -> Result<Option<NextResponse>, (u16, String)> {
    let asked = bed.client.post(format!("{}/v1/next", bed.url)).bearer_auth(session);
    let text = answer(asked.json(&NextRequest { subject: subject() }).send().await.expect("answers")).await?;
    Ok((!text.is_empty()).then(|| serde_json::from_str(&text).expect("a plan")))
}

#[tokio::test]
async fn only_the_session_that_prepared_the_host_gets_what_comes_next_and_once() {
    let image = image(70_000);
    let (bed, images) = ordered(&image).await;
    let session = bed.ask_session(&bed.request()).await.expect("a session").session;
    assert_eq!(ask(&bed, "a-guess").await.err(), refused::<()>(401, "SessionInvalid").err());
    claim(&bed, &images.url, &image, Some(OPERATION));
    assert_eq!(ask(&bed, "a-guess").await.err(), refused::<()>(401, "SessionInvalid").err());
    let next = ask(&bed, &session).await.expect("is answered").expect("a plan");
    assert_eq!(next.operation_id, NEXT);
    assert_ne!(next.session, session);
    assert_eq!(ask(&bed, &session).await.err(), refused::<()>(410, "OperationOver").err());
}

#[tokio::test]
async fn of_two_replicas_one_hands_the_deployment_out() {
    let image = image(70_000);
    let (bed, images) = ordered(&image).await;
    let session = bed.ask_session(&bed.request()).await.expect("a session").session;
    claim(&bed, &images.url, &image, Some(OPERATION));
    let (one, other) = (bed.replica(), bed.replica());
    let subject = subject();
    let (one, other) = tokio::join!(one.next(&session, &subject, "a"), other.next(&session, &subject, "b"));
    let got = |answer: &Result<Option<NextResponse>, Refusal>| matches!(answer, Ok(Some(_)));
    assert!(got(&one) != got(&other), "exactly one");
    let refusal = [one, other].into_iter().find_map(Result::err).expect("the other is told");
    assert_eq!(refusal.reason, Reason::OperationOver);
}
