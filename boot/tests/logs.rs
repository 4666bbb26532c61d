//! What a whole deployment leaves in the log, at the most talkative level. Alone in its file: it takes the process's
//! one subscriber.

mod support;

use rackwright_agent::Outcome;
use rackwright_api::host::OperationKind::Deploy;
use rackwright_protocol::token::{self, Purpose};
use std::io::Write;
use std::sync::{Arc, Mutex};
use support::host::{OPERATION, UID};
use support::machine::FakeMachine;
use support::{Bed, image};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("not poisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_secret_of_a_deployment_is_in_the_log() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .init();
    let bed = Bed::of(Deploy).await;
    let _images = bed.image(&image(3 << 20), &[]).await;
    assert_eq!(bed.boot(&mut FakeMachine::new()).await, Outcome::Done);
    bed.ask_session(&bed.request()).await.err().expect("the token is used");

    let text = String::from_utf8(log.0.lock().expect("not poisoned").clone()).expect("text");
    for (what, line) in
        [("the audit", "user-data handed out"), ("the result", "deployed"), ("the agent", "the agent is done")]
    {
        assert!(text.contains(line), "{what} is not in the log: the test sees nothing");
    }
    for (what, secret) in [
        ("user-data", "correct-horse-battery-staple".to_string()),
        ("the token", bed.key.secret(Purpose::Token, UID, OPERATION)),
        ("the media secret", bed.key.secret(Purpose::Media, UID, OPERATION)),
    ] {
        let found = text.lines().find(|line| line.contains(&secret));
        assert_eq!(found, None, "{what} is in the log");
    }
    // The session's secret is known to nobody but the agent; its digest is.
    let digest = bed.store.host().status.and_then(|status| status.agent).expect("called").session_digest;
    let word = |letter: char| !(letter.is_ascii_alphanumeric() || letter == '-' || letter == '_');
    assert!(!text.split(word).any(|word| token::digest(word) == digest), "the session is in the log");
}
