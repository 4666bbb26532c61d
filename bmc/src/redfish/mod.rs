//! A thin, lenient Redfish client (DSP0266, DSP0268) behind [`crate::Bmc`].
//!
//! Resources are JSON that is looked into, not types that must fit. Only links and action targets are followed; the service root is the
//! one path that is known. Every write is read back. Vendor facts are few and stand as comments where they are coped with.
//!
//! Reading order: `connector` (who talks to whom) → `machine` (one machine) → `boot`, `media` and `slot`, `actions` (the verbs) → `client`,
//! `session`, `tls`, `task` (the wire) → `fault`, `value` (what answers mean).

mod actions;
mod boot;
mod client;
mod connector;
mod fault;
mod machine;
mod media;
mod session;
mod slot;
mod survey;
mod task;
mod tls;
mod value;

pub use connector::RedfishConnector;
pub(crate) use survey::survey;

use std::time::Duration;

/// How patient the client is.
#[derive(Clone, Debug)]
pub struct RedfishConfig {
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for the answer to one read.
    pub request_timeout: Duration,
    /// Longest wait for the answer to one write: some BMCs fetch the image before they answer.
    pub write_timeout: Duration,
    /// Longest time for one call of [`crate::Bmc`], with all its requests, retries and waits.
    pub call_deadline: Duration,
    /// How often a read is repeated after 5xx or a broken connection.
    pub read_retries: usize,
    /// First wait between repeated reads; it doubles, with jitter.
    pub retry_delay: Duration,
    /// How long a write may take to show when it is read back.
    pub read_back: Duration,
    /// Wait between two looks at what was written.
    pub read_back_interval: Duration,
    /// Wait between two looks at a task.
    pub task_interval: Duration,
    /// How long a BMC that had no session left gets name and password with each request before it is asked for a session again.
    pub session_retry: Duration,
    /// A BMC that nobody asked for this long is forgotten, and its session given back.
    pub idle: Duration,
    /// Allows `http://`, which sends the password in the clear. For tests and emulators.
    pub allow_plain_http: bool,
}

impl Default for RedfishConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(30),
            call_deadline: Duration::from_secs(60),
            read_retries: 3,
            retry_delay: Duration::from_millis(200),
            read_back: Duration::from_secs(6),
            read_back_interval: Duration::from_millis(500),
            task_interval: Duration::from_secs(1),
            session_retry: Duration::from_secs(300),
            idle: Duration::from_secs(3600),
            allow_plain_http: false,
        }
    }
}
