//! Counters of the calls, in the Prometheus text format.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::time::Duration;

/// Counters of the calls.
pub struct Metrics {
    registry: Registry,
    calls: Family<Call, Counter>,
    seconds: Family<Rpc, Histogram>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Call {
    rpc: &'static str,
    code: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Rpc {
    rpc: &'static str,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let calls = Family::default();
        let seconds =
            Family::<Rpc, Histogram>::new_with_constructor(|| Histogram::new(exponential_buckets(0.000_004, 4.0, 11)));
        let mut registry = Registry::with_prefix("rackwright_autoscaler");
        registry.register("calls", "Calls by RPC and gRPC code", calls.clone());
        registry.register_with_unit("call_duration", "Time in the service by RPC", Unit::Seconds, seconds.clone());
        Metrics { registry, calls, seconds }
    }
}

impl Metrics {
    /// A call of `rpc` took `time`.
    pub fn call(&self, rpc: &'static str, code: tonic::Code, time: Duration) {
        self.calls.get_or_create(&Call { rpc, code: format!("{code:?}") }).inc();
        self.seconds.get_or_create(&Rpc { rpc }).observe(time.as_secs_f64());
    }

    /// The Prometheus text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(_) => String::new(),
        }
    }
}
