//! Counters of the process, in the Prometheus text format.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::sync::Arc;
use std::time::Duration;

/// Counters of the process.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    passes: Family<Pass, Counter>,
    seconds: Family<KindLabel, Histogram>,
    requests: Family<Request, Counter>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Pass {
    kind: String,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabel {
    kind: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Request {
    verb: &'static str,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let passes = Family::default();
        let seconds =
            Family::<KindLabel, Histogram>::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 4.0, 9)));
        let requests = Family::default();
        let mut registry = Registry::with_prefix("rackwright");
        registry.register("passes", "Passes of a reconciler by kind and result", passes.clone());
        registry.register_with_unit("pass_duration", "Time of a pass by kind", Unit::Seconds, seconds.clone());
        registry.register(
            "api_requests",
            "Requests to the API server by verb (watch and list apart)",
            requests.clone(),
        );
        Metrics { registry: Arc::new(registry), passes, seconds, requests }
    }
}

impl Metrics {
    /// A pass of `kind` took `time`.
    pub fn pass(&self, kind: &str, ok: bool, time: Duration) {
        let result = if ok { "ok" } else { "error" };
        self.passes.get_or_create(&Pass { kind: kind.into(), result }).inc();
        self.seconds.get_or_create(&KindLabel { kind: kind.into() }).observe(time.as_secs_f64());
    }

    /// A request was sent to the API server.
    pub fn request(&self, method: &http::Method, uri: &http::Uri) {
        let verb = match *method {
            http::Method::GET if uri.query().is_some_and(|query| query.contains("watch=true")) => "watch",
            http::Method::GET if uri.query().is_some_and(|query| query.contains("limit=")) => "list",
            http::Method::GET => "get",
            http::Method::POST => "create",
            http::Method::PUT => "update",
            http::Method::PATCH => "patch",
            http::Method::DELETE => "delete",
            _ => "other",
        };
        self.requests.get_or_create(&Request { verb }).inc();
    }

    /// All counters as text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(_) => String::new(), // writing to a String does not fail
        }
    }
}
