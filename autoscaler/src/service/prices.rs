//! Prices for `--expander=price`: a host's for its hours, and a pod's share by what it asks for.

use crate::groups::{NODE_GROUP, Snapshot};
use crate::quantity::amount;
use crate::wire::*;
use k8s_pb::api::core::v1::Pod;
use prost::Message;
use prost_types::Timestamp;
use tonic::Status;

/// The price of a node, or of the node that a template stands for.
pub(super) fn node(snapshot: &Snapshot, request: &PricingNodePriceRequest) -> Result<PricingNodePriceResponse, Status> {
    let node = request.node.clone().unwrap_or_default();
    let own = snapshot.group_of(&node.provider_id).map(|group| group.id.as_str());
    let id = own.or_else(|| node.annotations.get(NODE_GROUP).map(String::as_str)).or_else(|| of_template(&node.name));
    let price = id.and_then(|id| snapshot.groups.get(id)).and_then(|group| group.price);
    let hours = hours(
        [&request.start_timestamp, &request.start_time_legacy],
        [&request.end_timestamp, &request.end_time_legacy],
    );
    price
        .map(|price| PricingNodePriceResponse { price: price * hours })
        .ok_or_else(|| Status::unimplemented("no price is known: annotate hosts with rackwright.dev/price-per-hour"))
}

/// `template-node-for-GROUP-RANDOM`.
fn of_template(name: &str) -> Option<&str> {
    Some(name.strip_prefix("template-node-for-")?.rsplit_once('-')?.0)
}

/// The price of what a pod asks for: half of a host's price lies on its cores, half on its memory.
pub(super) fn pod(snapshot: &Snapshot, request: &PricingPodPriceRequest) -> Result<PricingPodPriceResponse, Status> {
    let Some((core, gib)) = snapshot.unit_prices else {
        return Err(Status::unimplemented("no price is known: annotate hosts with rackwright.dev/price-per-hour"));
    };
    let bytes = if request.pod_bytes.is_empty() { &request.pod_legacy } else { &request.pod_bytes };
    let pod = Pod::decode(bytes.as_slice()).map_err(|error| Status::invalid_argument(format!("pod: {error}")))?;
    let (mut cores, mut memory) = (0.0, 0.0);
    for container in pod.spec.unwrap_or_default().containers {
        let asked = container.resources.unwrap_or_default().requests;
        let of = |name: &str| asked.get(name).and_then(|found| found.string.as_deref()).and_then(amount).unwrap_or(0.0);
        cores += of("cpu");
        memory += of("memory") / f64::from(1 << 30);
    }
    let hours = hours(
        [&request.start_timestamp, &request.start_time_legacy],
        [&request.end_timestamp, &request.end_time_legacy],
    );
    Ok(PricingPodPriceResponse { price: (cores * core + memory * gib) * hours })
}

fn hours(start: [&Option<Timestamp>; 2], end: [&Option<Timestamp>; 2]) -> f64 {
    let seconds = |times: [&Option<Timestamp>; 2]| {
        times.into_iter().flatten().next().map(|time| time.seconds as f64 + f64::from(time.nanos) / 1e9)
    };
    match (seconds(start), seconds(end)) {
        (Some(start), Some(end)) => ((end - start) / 3600.0).max(0.0),
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_node_names_its_group() {
        assert_eq!(of_template("template-node-for-ns/pool/c-1/r-42817"), Some("ns/pool/c-1/r"));
    }
}
