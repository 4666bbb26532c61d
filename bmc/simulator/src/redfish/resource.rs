//! What stands where in the tree of one BMC, and which methods it takes.

use axum::http::Method;

/// One thing that has a URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    Versions,
    Root,
    OData,
    Metadata,
    Systems,
    System,
    Reset,
    Nics,
    Nic(usize),
    Managers,
    Manager,
    Slots,
    Slot,
    InsertMedia,
    EjectMedia,
    AllChassis,
    Chassis,
    SessionService,
    Sessions,
    /// The members of the sessions: another way to say the same when one is opened.
    SessionMembers,
    Session(u64),
    AccountService,
    Accounts,
    Account,
    Roles,
    Role(Role),
}

/// A standard role (DSP0266 "Roles").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Administrator,
    Operator,
    ReadOnly,
}

use Resource::*;

/// Everything with a fixed URI.
const FIXED: [(&str, Resource); 26] = [
    ("/redfish", Versions),
    ("/redfish/v1", Root),
    ("/redfish/v1/odata", OData),
    ("/redfish/v1/$metadata", Metadata),
    ("/redfish/v1/Systems", Systems),
    ("/redfish/v1/Systems/1", System),
    ("/redfish/v1/Systems/1/Actions/ComputerSystem.Reset", Reset),
    ("/redfish/v1/Systems/1/EthernetInterfaces", Nics),
    ("/redfish/v1/Managers", Managers),
    ("/redfish/v1/Managers/1", Manager),
    ("/redfish/v1/Managers/1/VirtualMedia", Slots),
    ("/redfish/v1/Managers/1/VirtualMedia/Cd", Slot),
    ("/redfish/v1/Managers/1/VirtualMedia/Cd/Actions/VirtualMedia.InsertMedia", InsertMedia),
    ("/redfish/v1/Managers/1/VirtualMedia/Cd/Actions/VirtualMedia.EjectMedia", EjectMedia),
    ("/redfish/v1/Chassis", AllChassis),
    ("/redfish/v1/Chassis/1", Chassis),
    ("/redfish/v1/SessionService", SessionService),
    ("/redfish/v1/SessionService/Sessions", Sessions),
    ("/redfish/v1/SessionService/Sessions/Members", SessionMembers),
    ("/redfish/v1/AccountService", AccountService),
    ("/redfish/v1/AccountService/Accounts", Accounts),
    ("/redfish/v1/AccountService/Accounts/1", Account),
    ("/redfish/v1/AccountService/Roles", Roles),
    ("/redfish/v1/AccountService/Roles/Administrator", Role(self::Role::Administrator)),
    ("/redfish/v1/AccountService/Roles/Operator", Role(self::Role::Operator)),
    ("/redfish/v1/AccountService/Roles/ReadOnly", Role(self::Role::ReadOnly)),
];

impl Resource {
    /// What stands at `path`; a slash at its end makes no difference. Numbers that nothing has yet are found, too.
    pub fn at(path: &str) -> Option<Resource> {
        let path = path.strip_suffix('/').unwrap_or(path);
        if let Some((_, found)) = FIXED.iter().find(|(fixed, _)| *fixed == path) {
            return Some(*found);
        }
        let (parent, last) = path.rsplit_once('/')?;
        match Resource::at(parent)? {
            Nics => last.parse().ok().map(Nic),
            Sessions => last.parse().ok().map(Session),
            _ => None,
        }
    }

    /// Its URI, as links name it.
    pub fn uri(self) -> String {
        match self {
            // The one URI that the specification writes with a slash.
            Root => "/redfish/v1/".into(),
            Nic(number) => format!("{}/{number}", Nics.uri()),
            Session(id) => format!("{}/{id}", Sessions.uri()),
            fixed => FIXED.iter().find(|(_, resource)| *resource == fixed).map_or("", |(uri, _)| uri).to_string(),
        }
    }

    /// The methods that it takes.
    pub fn methods(self) -> &'static [Method] {
        const READ: &[Method] = &[Method::GET, Method::HEAD];
        const CHANGE: &[Method] = &[Method::GET, Method::HEAD, Method::PATCH];
        const CREATE: &[Method] = &[Method::GET, Method::HEAD, Method::POST];
        const END: &[Method] = &[Method::GET, Method::HEAD, Method::DELETE];
        match self {
            Reset | InsertMedia | EjectMedia | SessionMembers => &[Method::POST],
            System | Chassis => CHANGE,
            Sessions => CREATE,
            Session(_) => END,
            _ => READ,
        }
    }

    /// True when `method` on it needs no account (DSP0266 "Authentication").
    pub fn is_open_to(self, method: &Method) -> bool {
        match self {
            Versions | Root | OData | Metadata => true,
            Sessions | SessionMembers => method == Method::POST,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_resource_is_found_at_its_own_uri() {
        for (uri, resource) in FIXED {
            assert_eq!(Resource::at(uri), Some(resource));
            assert_eq!(Resource::at(&resource.uri()), Some(resource));
        }
        assert_eq!(Resource::at(&Nic(1).uri()), Some(Nic(1)));
        assert_eq!(Resource::at(&Session(7).uri()), Some(Session(7)));
    }

    #[test]
    fn what_does_not_exist_is_not_found() {
        for path in ["/", "", "/redfish/v2", "/redfish/v1/Systems/2", "/redfish/v1/SessionService/Sessions/x"] {
            assert_eq!(Resource::at(path), None, "{path}");
        }
    }
}
