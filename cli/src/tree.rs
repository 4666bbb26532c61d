//! `rackwright tree`: regions, datacenters, racks and hosts as a drawing, one letter a host.

use crate::access::Access;
use crate::output::Output;
use clap::Args;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use rackwright_api::contract::{CONTROL_PLANE_LABEL, Machine};
use rackwright_api::host::Phase;
use rackwright_api::{Datacenter, Host, Rack};
use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;

/// Draws regions, datacenters, racks and hosts.
#[derive(Args)]
pub struct TreeArgs {
    #[command(flatten)]
    access: Access,
    /// Text for people, or JSON or YAML for scripts.
    #[arg(long, short, value_enum, default_value = "text")]
    output: Output,
}

/// What the drawing needs of one host.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Drawn {
    region: String,
    datacenter: String,
    rack: String,
    unit: i32,
    name: String,
    phase: Option<Phase>,
    machine: Option<String>,
    control_plane: bool,
}

/// Prints the drawing.
pub async fn run(args: TreeArgs) -> anyhow::Result<()> {
    let (client, namespace) = args.access.client().await?;
    let hosts = read(&client, &namespace).await?;
    print!("{}", args.output.of(&hosts, |hosts| draw(hosts))?);
    Ok(())
}

async fn read(client: &Client, namespace: &str) -> anyhow::Result<Vec<Drawn>> {
    let all = ListParams::default();
    let racks: BTreeMap<_, _> = (Api::<Rack>::namespaced(client.clone(), namespace).list(&all).await?.into_iter())
        .map(|rack| (rack.name_any(), rack.spec.datacenter))
        .collect();
    let datacenters: BTreeMap<_, _> =
        (Api::<Datacenter>::namespaced(client.clone(), namespace).list(&all).await?.into_iter())
            .map(|datacenter| (datacenter.name_any(), datacenter.spec.region))
            .collect();
    let control_plane: HashSet<_> = (Api::<Machine>::namespaced(client.clone(), namespace)
        .list(&ListParams::default().labels(CONTROL_PLANE_LABEL))
        .await)
        .map(|machines| machines.into_iter().filter_map(|machine| machine.spec.provider_id).collect())
        .unwrap_or_default(); // Cluster API may not be installed
    let hosts = Api::<Host>::namespaced(client.clone(), namespace).list(&all).await?;
    let unknown = || "?".to_string();
    Ok(hosts
        .into_iter()
        .map(|host| {
            let datacenter = racks.get(&host.spec.rack).cloned().unwrap_or_else(unknown);
            let claim = host.spec.claim.as_ref();
            Drawn {
                region: datacenters.get(&datacenter).cloned().unwrap_or_else(unknown),
                datacenter,
                rack: host.spec.rack.clone(),
                unit: host.spec.unit.unwrap_or_default(),
                name: host.name_any(),
                phase: host.status.as_ref().and_then(|status| status.phase),
                machine: claim.map(|claim| claim.consumer.name.clone()),
                control_plane: claim.is_some_and(|claim| control_plane.contains(&claim.provider_id)),
            }
        })
        .collect())
}

/// The drawing: a line per rack, lowest unit first.
pub fn draw(hosts: &[Drawn]) -> String {
    let mut places = BTreeMap::<(&str, &str), BTreeMap<&str, Vec<&Drawn>>>::new();
    for host in hosts {
        places.entry((&host.region, &host.datacenter)).or_default().entry(&host.rack).or_default().push(host);
    }
    let mut text = String::new();
    for ((region, datacenter), racks) in places {
        let _ = writeln!(text, "{region} / {datacenter}");
        let width = racks.keys().map(|rack| rack.len()).max().unwrap_or_default();
        for (rack, mut hosts) in racks {
            hosts.sort_by_key(|host| (host.unit, &host.name));
            let row: Vec<_> = hosts.iter().map(|host| format!("[{}]", letter(host))).collect();
            let _ = writeln!(text, "  {rack:width$}  {}", row.join(" "));
        }
    }
    if !text.is_empty() {
        text.push_str(
            "  C control plane  W worker  + being provisioned  - being wiped  i inspecting  ! broken  m retired\n",
        );
    }
    text
}

fn letter(host: &Drawn) -> char {
    match host.phase {
        Some(Phase::Provisioned) if host.control_plane => 'C',
        Some(Phase::Provisioned) => 'W',
        Some(Phase::Provisioning) => '+',
        Some(Phase::Deprovisioning | Phase::Retiring) => '-',
        Some(Phase::Inspecting) => 'i',
        Some(Phase::Broken) => '!',
        Some(Phase::Retired) => 'm',
        Some(Phase::Available) => ' ',
        Some(Phase::Registering) | None => '?',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(rack: &str, unit: i32, phase: Phase, control_plane: bool) -> Drawn {
        Drawn {
            region: "eu".into(),
            datacenter: "osl1".into(),
            rack: rack.into(),
            unit,
            name: format!("{rack}-u{unit:02}"),
            phase: Some(phase),
            machine: None,
            control_plane,
        }
    }

    #[test]
    fn a_rack_is_a_line_and_a_host_a_letter() {
        let hosts = [
            host("rack-b", 1, Phase::Broken, false),
            host("rack-a", 2, Phase::Provisioned, false),
            host("rack-a", 1, Phase::Provisioned, true),
            host("rack-a", 3, Phase::Available, false),
        ];
        let drawing = draw(&hosts);
        let lines: Vec<_> = drawing.lines().take(3).collect();
        assert_eq!(lines, ["eu / osl1", "  rack-a  [C] [W] [ ]", "  rack-b  [!]"]);
    }
}
