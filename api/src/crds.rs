//! The CustomResourceDefinitions, as `config/crd/` holds them.
//!
//! What kube-derive writes is changed in one way: `nullable` is taken out. A stored `null` breaks Go readers of the
//! same object (Cluster API casts without asking), and no field of ours means anything by being null.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

/// Every definition of the infrastructure provider.
pub fn infrastructure() -> Vec<CustomResourceDefinition> {
    [
        crate::Region::crd(),
        crate::Datacenter::crd(),
        crate::Rack::crd(),
        crate::Host::crd(),
        crate::HostHardware::crd(),
        crate::OSImage::crd(),
        crate::NodePool::crd(),
        crate::RackwrightCluster::crd(),
        crate::RackwrightClusterTemplate::crd(),
        crate::RackwrightMachine::crd(),
        crate::RackwrightMachineTemplate::crd(),
    ]
    .map(without_nullable)
    .into()
}

/// Every definition of the bootstrap provider.
pub fn bootstrap() -> Vec<CustomResourceDefinition> {
    [crate::RackwrightConfig::crd(), crate::RackwrightConfigTemplate::crd()].map(without_nullable).into()
}

fn without_nullable(crd: CustomResourceDefinition) -> CustomResourceDefinition {
    let mut value = serde_json::to_value(&crd).expect("a definition is plain data");
    strip(&mut value);
    serde_json::from_value(value).expect("taking keys out leaves a definition")
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map.get("nullable").is_some_and(Value::is_boolean) {
                map.remove("nullable");
            }
            map.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cluster API computes a definition's name from its kind (util/contract/crd.go, with gobuffalo/flect).
    fn plural_as_cluster_api_computes_it(kind: &str) -> String {
        format!("{}s", kind.to_lowercase())
    }

    #[test]
    fn every_kind_that_core_dereferences_has_the_contract_label_and_the_computed_name() {
        let all: Vec<_> = infrastructure().into_iter().chain(bootstrap()).collect();
        assert_eq!(all.len(), 13);
        for crd in all {
            let name = crd.metadata.name.as_deref().unwrap_or_default();
            let expected = format!("{}.{}", plural_as_cluster_api_computes_it(&crd.spec.names.kind), crd.spec.group);
            assert_eq!(name, expected);
            let label = crd.metadata.labels.unwrap_or_default().get("cluster.x-k8s.io/v1beta2").cloned();
            let dereferenced = crd.spec.group.ends_with("cluster.x-k8s.io");
            assert_eq!(label, dereferenced.then(|| "v1alpha1".to_string()), "{name}");
            assert_eq!(crd.spec.versions.len(), 1, "{name} serves one version");
        }
    }

    #[test]
    fn no_field_may_be_null() {
        for crd in infrastructure().into_iter().chain(bootstrap()) {
            assert!(!serde_json::to_string(&crd).expect("serialises").contains(r#""nullable""#));
        }
    }
}
