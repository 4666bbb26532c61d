//! The JSON of each resource, as the schemas of the DMTF bundle 2022.3 (DSP8010) name its parts. Reads the machine,
//! changes nothing.

mod machine;
mod service;

use super::resource::{Resource, Role};
use super::session::Sessions;
use crate::hardware::Spec;
use crate::machine::{Machine, Target};
use serde_json::{Value, json};

/// What documents are made from.
pub struct View<'a> {
    pub spec: &'a Spec,
    pub machine: &'a Machine,
    pub sessions: &'a Sessions,
    pub username: &'a str,
}

impl View<'_> {
    /// The document of `resource`; `None`: there is no such thing (any more).
    pub fn document(&self, resource: Resource) -> Option<Value> {
        let (kind, body) = match resource {
            Resource::Versions => return Some(json!({"v1": Resource::Root.uri()})),
            Resource::OData => return Some(service::odata()),
            Resource::Root => service::root(self.spec),
            Resource::Systems => collection("ComputerSystem", "Systems", [Resource::System]),
            Resource::System => machine::system(self.spec, self.machine),
            Resource::Nics => {
                collection("EthernetInterface", "Interfaces", (0..self.spec.facts.nics.len()).map(Resource::Nic))
            }
            Resource::Nic(number) => machine::nic(number, self.spec.facts.nics.get(number)?),
            Resource::Managers => collection("Manager", "Managers", [Resource::Manager]),
            Resource::Manager => machine::manager(self.spec),
            Resource::Slots => {
                let slot = self.spec.boots(Target::Cd).then_some(Resource::Slot);
                collection("VirtualMedia", "Virtual media", slot)
            }
            Resource::Slot if !self.spec.boots(Target::Cd) => return None,
            Resource::Slot => machine::slot(self.machine),
            Resource::AllChassis => collection("Chassis", "Chassis", [Resource::Chassis]),
            Resource::Chassis => machine::chassis(self.spec, self.machine),
            Resource::SessionService => service::session_service(),
            Resource::Sessions => {
                let open = self.sessions.iter().map(|session| Resource::Session(session.id));
                collection("Session", "Sessions", open)
            }
            Resource::Session(id) => {
                self.sessions.iter().find(|session| session.id == id)?;
                service::session(id, self.username)
            }
            Resource::AccountService => service::account_service(),
            Resource::Accounts => collection("ManagerAccount", "Accounts", [Resource::Account]),
            Resource::Account => service::account(self.username),
            Resource::Roles => {
                let all = [Role::Administrator, Role::Operator, Role::ReadOnly];
                collection("Role", "Roles", all.map(Resource::Role))
            }
            Resource::Role(role) => service::role(role),
            Resource::Metadata
            | Resource::SessionMembers
            | Resource::Reset
            | Resource::InsertMedia
            | Resource::EjectMedia => return None,
        };
        Some(identified(resource, kind, body))
    }
}

/// The OData schema, XML.
pub fn metadata() -> String {
    service::metadata()
}

fn link(resource: Resource) -> Value {
    json!({"@odata.id": resource.uri()})
}

/// Type, and what stands below it.
type Typed = (String, Value);

fn collection(of: &str, name: &str, members: impl IntoIterator<Item = Resource>) -> Typed {
    let members: Vec<Value> = members.into_iter().map(link).collect();
    let body = json!({"Name": name, "Members@odata.count": members.len(), "Members": members});
    (format!("#{of}Collection.{of}Collection"), body)
}

/// A type with its version, such as `ComputerSystem` and `v1_20_0`.
fn typed(name: &str, version: &str, body: Value) -> Typed {
    (format!("#{name}.{version}.{name}"), body)
}

fn identified(resource: Resource, kind: String, mut body: Value) -> Value {
    body["@odata.id"] = json!(resource.uri());
    body["@odata.type"] = json!(kind);
    body
}
