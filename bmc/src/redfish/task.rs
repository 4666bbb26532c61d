//! Waits for what a BMC does later (202 Accepted; DSP0266 "Asynchronous operations").
//!
//! The task itself is polled where the answer names one: on Lenovo reading the *monitor* deletes the finished task.

use super::client::{Answer, Line};
use super::fault::{Fault, Refusal};
use super::value::text;
use crate::error::Error;
use reqwest::header::LOCATION;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// What a task's answer means.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Done,
    Failed,
    Running(String),
}

impl Line<'_> {
    /// Waits until the BMC has done what it took on. An answer other than 202 is done already.
    pub(crate) async fn settle(&mut self, what: &str, answer: Answer) -> std::result::Result<(), Fault> {
        let Some(monitor) = monitor(&answer) else { return Ok(()) };
        let mut state = String::from("just begun");
        while self.pause(self.client.config.task_interval).await {
            let (status, body) = match self.look(&monitor).await {
                Ok(seen) => seen,
                // Finished tasks are forgotten by some; reading back tells the rest.
                Err(fault) if fault.is_gone() => return Ok(()),
                // The call's time ended while it was looked at: what is known is that it goes on.
                Err(_) if self.is_over() => break,
                Err(fault) => return Err(fault),
            };
            match progress(status, &body) {
                Progress::Done => return Ok(()),
                Progress::Failed => return Err(failure(what, &body)),
                Progress::Running(now) => state = now,
            }
        }
        Err(Error::Busy { why: format!("its task to {what} is {state}") }.into())
    }
}

/// The link to poll, if there is anything to wait for.
fn monitor(answer: &Answer) -> Option<String> {
    if answer.status != StatusCode::ACCEPTED {
        return None;
    }
    let is_task = text(&answer.body, "/@odata.type").is_some_and(|kind| kind.starts_with("#Task."));
    let task = text(&answer.body, "/@odata.id").filter(|_| is_task);
    let location = answer.headers.get(LOCATION).and_then(|location| location.to_str().ok());
    task.or(location).map(str::to_owned)
}

fn progress(status: StatusCode, body: &Value) -> Progress {
    match text(body, "/TaskState") {
        // `Pending` waits for a reset that we have not ordered yet: what can be done now is done.
        Some("Completed" | "Pending") => Progress::Done,
        Some("Exception" | "Killed" | "Cancelled" | "Interrupted") => Progress::Failed,
        Some(state) => Progress::Running(state.to_owned()),
        None if status == StatusCode::ACCEPTED => Progress::Running("running".into()),
        None => Progress::Done,
    }
}

/// The task's own messages are of the shape of an error's.
fn failure(what: &str, task: &Value) -> Fault {
    let messages = task.get("Messages").cloned().unwrap_or_default();
    let body = json!({"error": {"@Message.ExtendedInfo": messages, "message": "its task failed"}});
    Fault::Refused(Refusal::read(what, &Method::POST, StatusCode::BAD_REQUEST, body.to_string().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderMap;

    fn accepted(location: &'static str, body: Value) -> Answer {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, location.parse().expect("a header value"));
        Answer { status: StatusCode::ACCEPTED, headers, body }
    }

    #[test]
    fn the_task_is_polled_rather_than_its_monitor() {
        let answer = accepted("/Tasks/7/Monitor", json!({"@odata.type": "#Task.v1_4_3.Task", "@odata.id": "/Tasks/7"}));
        assert_eq!(monitor(&answer).as_deref(), Some("/Tasks/7"));
    }

    #[test]
    fn json_that_is_no_task_is_not_polled() {
        let answer =
            accepted("/Tasks/7/Monitor", json!({"@odata.type": "#Chassis.v1_0_0.Chassis", "@odata.id": "/Chassis/1"}));
        assert_eq!(monitor(&answer).as_deref(), Some("/Tasks/7/Monitor"));
    }

    #[test]
    fn task_states_are_read() {
        let state = |state: &str| progress(StatusCode::OK, &json!({"TaskState": state}));
        assert_eq!(state("Completed"), Progress::Done);
        assert_eq!(state("Exception"), Progress::Failed);
        assert_eq!(state("Running"), Progress::Running("Running".into()));
    }

    #[test]
    fn a_failed_task_tells_its_messages() {
        let error: Error = failure("insert the image", &json!({"Messages": [{"Message": "No such share."}]})).into();
        assert!(error.to_string().contains("No such share."), "{error}");
    }
}
