//! The service itself: root, sessions, accounts, and what OData asks for.

use super::{Typed, link, typed};
use crate::hardware::Spec;
use crate::redfish::resource::{Resource, Role};
use crate::redfish::session::SESSION_TIMEOUT;
use serde_json::{Value, json};

/// Every schema in use and its version; collections have none.
const SCHEMAS: [(&str, &str); 19] = [
    ("ServiceRoot", "v1_15_0"),
    ("ComputerSystem", "v1_20_0"),
    ("ComputerSystemCollection", ""),
    ("EthernetInterface", "v1_9_0"),
    ("EthernetInterfaceCollection", ""),
    ("Manager", "v1_17_0"),
    ("ManagerCollection", ""),
    ("VirtualMedia", "v1_6_0"),
    ("VirtualMediaCollection", ""),
    ("Chassis", "v1_22_0"),
    ("ChassisCollection", ""),
    ("SessionService", "v1_1_8"),
    ("Session", "v1_5_0"),
    ("SessionCollection", ""),
    ("AccountService", "v1_12_0"),
    ("ManagerAccount", "v1_9_0"),
    ("ManagerAccountCollection", ""),
    ("Role", "v1_3_1"),
    ("RoleCollection", ""),
];

pub fn root(spec: &Spec) -> Typed {
    let body = json!({
        "Id": "RootService",
        "Name": "Root Service",
        "RedfishVersion": "1.17.0",
        "UUID": spec.facts.system_uuid,
        "Vendor": spec.facts.vendor,
        "Product": "Simulated BMC",
        "ProtocolFeaturesSupported": {
            "ExcerptQuery": false,
            "ExpandQuery": {"ExpandAll": false, "Levels": false, "Links": false, "NoLinks": false},
            "FilterQuery": false,
            "OnlyMemberQuery": false,
            "SelectQuery": false,
        },
        "Systems": link(Resource::Systems),
        "Managers": link(Resource::Managers),
        "Chassis": link(Resource::AllChassis),
        "SessionService": link(Resource::SessionService),
        "AccountService": link(Resource::AccountService),
        "Links": {"Sessions": link(Resource::Sessions)},
    });
    typed("ServiceRoot", "v1_15_0", body)
}

pub fn odata() -> Value {
    let service = |resource: Resource, name: &str| json!({"name": name, "kind": "Singleton", "url": resource.uri()});
    json!({
        "@odata.context": Resource::Metadata.uri(),
        "value": [
            service(Resource::Root, "Service"),
            service(Resource::Systems, "Systems"),
            service(Resource::Managers, "Managers"),
            service(Resource::AllChassis, "Chassis"),
            service(Resource::SessionService, "SessionService"),
            service(Resource::AccountService, "AccountService"),
            service(Resource::Sessions, "Sessions"),
        ],
    })
}

pub fn metadata() -> String {
    let references: String = SCHEMAS.iter().map(|(name, version)| reference(name, version)).collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <edmx:Edmx xmlns:edmx=\"http://docs.oasis-open.org/odata/ns/edmx\" Version=\"4.0\">\n{references}\
         <edmx:DataServices>\n\
         <Schema xmlns=\"http://docs.oasis-open.org/odata/ns/edm\" Namespace=\"Service\">\n\
         <EntityContainer Name=\"Service\" Extends=\"ServiceRoot.v1_15_0.ServiceContainer\"/>\n\
         </Schema>\n</edmx:DataServices>\n</edmx:Edmx>\n"
    )
}

fn reference(name: &str, version: &str) -> String {
    let versioned = match version {
        "" => String::new(),
        version => format!("<edmx:Include Namespace=\"{name}.{version}\"/>\n"),
    };
    format!(
        "<edmx:Reference Uri=\"http://redfish.dmtf.org/schemas/v1/{name}_v1.xml\">\n\
         <edmx:Include Namespace=\"{name}\"/>\n{versioned}</edmx:Reference>\n"
    )
}

pub fn session_service() -> Typed {
    let body = json!({
        "Id": "SessionService",
        "Name": "Session Service",
        "ServiceEnabled": true,
        "SessionTimeout": SESSION_TIMEOUT.as_secs(),
        "Status": {"State": "Enabled", "Health": "OK"},
        "Sessions": link(Resource::Sessions),
    });
    typed("SessionService", "v1_1_8", body)
}

pub fn session(id: u64, username: &str) -> Typed {
    let body = json!({"Id": id.to_string(), "Name": "User session", "UserName": username, "SessionType": "Redfish"});
    typed("Session", "v1_5_0", body)
}

pub fn account_service() -> Typed {
    let body = json!({
        "Id": "AccountService",
        "Name": "Account Service",
        "ServiceEnabled": true,
        "Status": {"State": "Enabled", "Health": "OK"},
        "Accounts": link(Resource::Accounts),
        "Roles": link(Resource::Roles),
    });
    typed("AccountService", "v1_12_0", body)
}

pub fn account(username: &str) -> Typed {
    let body = json!({
        "Id": "1",
        "Name": "User account",
        "UserName": username,
        "Password": null,
        "RoleId": "Administrator",
        "AccountTypes": ["Redfish"],
        "Enabled": true,
        "Locked": false,
        "Links": {"Role": link(Resource::Role(Role::Administrator))},
    });
    typed("ManagerAccount", "v1_9_0", body)
}

pub fn role(role: Role) -> Typed {
    let (name, privileges): (&str, &[&str]) = match role {
        Role::Administrator => {
            ("Administrator", &["Login", "ConfigureManager", "ConfigureUsers", "ConfigureSelf", "ConfigureComponents"])
        }
        Role::Operator => ("Operator", &["Login", "ConfigureSelf", "ConfigureComponents"]),
        Role::ReadOnly => ("ReadOnly", &["Login", "ConfigureSelf"]),
    };
    let body = json!({
        "Id": name,
        "Name": name,
        "RoleId": name,
        "IsPredefined": true,
        "AssignedPrivileges": privileges,
    });
    typed("Role", "v1_3_1", body)
}
