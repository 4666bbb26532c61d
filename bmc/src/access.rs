//! Who to talk to and whom to trust.

use secrecy::{ExposeSecret, SecretString};
use url::Url;

/// Everything needed to talk to one BMC.
#[derive(Clone, Debug)]
pub struct Access {
    /// `https://10.1.1.7`; a path such as `/redfish/v1/Systems/2` picks one of several systems.
    pub address: Url,
    /// Account.
    pub username: String,
    /// Its password.
    pub password: SecretString,
    /// Which certificate to trust.
    pub trust: Trust,
}

/// Which certificate a BMC must show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// One that the system's authorities vouch for.
    #[default]
    System,
    /// One that these authorities vouch for (PEM).
    Ca(String),
    /// Exactly the certificate with this SHA-256 (of its DER form), 64 lower-case hex digits.
    Pin(String),
}

impl Access {
    /// True when `other` leads to the same BMC with the same rights, so that a session can be shared.
    pub fn is_same(&self, other: &Access) -> bool {
        self.address == other.address
            && self.username == other.username
            && self.password.expose_secret() == other.password.expose_secret()
            && self.trust == other.trust
    }
}
