//! Can this machine be onboarded, and what would be done to it? Reads only; changes nothing but making and ending one session.

use crate::access::Access;
use crate::redfish::{RedfishConfig, survey};
use serde::Serialize;

/// What one look at a BMC tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProbeReport {
    /// Scheme, host, port and path that was asked; never an account.
    pub address: String,
    /// True when everything that a deployment needs is there.
    pub can_onboard: bool,
    /// What stands in the way, each a sentence.
    pub problems: Vec<String>,
    /// What would be done for a deployment, in order, each a sentence.
    pub plan: Vec<String>,
    /// SHA-256 of the certificate that was shown, 64 lower-case hex digits: what to pin.
    pub certificate_sha256: Option<String>,
    /// `Session` or `Basic`.
    pub auth: Option<String>,
    /// Redfish service.
    pub service: Option<Service>,
    /// All systems behind this BMC.
    pub systems: Vec<SystemName>,
    /// The one that the address chooses.
    pub system: Option<ProbedSystem>,
    /// Virtual media slots that take a CD.
    pub media: Vec<MediaSlot>,
}

/// The Redfish service as its root describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// For example `HPE`.
    pub vendor: Option<String>,
    /// For example `ProLiant DL385 Gen10 Plus v2`.
    pub product: Option<String>,
    /// For example `1.6.0`.
    pub redfish_version: Option<String>,
}

/// One system behind the BMC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SystemName {
    /// To be put into the address when there are several.
    pub path: String,
    /// Its name.
    pub name: Option<String>,
}

/// The chosen system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProbedSystem {
    /// Its link.
    pub path: String,
    /// Manufacturer.
    pub vendor: Option<String>,
    /// Model.
    pub model: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// SMBIOS UUID, lower case.
    pub uuid: Option<String>,
    /// `PowerState` as the BMC says it.
    pub power: Option<String>,
    /// `OK`, `Warning` or `Critical`.
    pub health: Option<String>,
    /// `BootSourceOverrideTarget` as it is now.
    pub boot_target: Option<String>,
    /// `BootSourceOverrideEnabled` as it is now.
    pub boot_enabled: Option<String>,
    /// `UEFI` or `Legacy`.
    pub boot_mode: Option<String>,
    /// Allowed boot targets; empty when the BMC does not say.
    pub boot_targets: Vec<String>,
    /// Allowed reset values; empty when the BMC does not say.
    pub reset_values: Vec<String>,
    /// True when it has a light to find it by.
    pub has_locator: bool,
}

/// One virtual media slot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MediaSlot {
    /// Its link.
    pub path: String,
    /// `MediaTypes`.
    pub media_types: Vec<String>,
    /// True when it has the `InsertMedia` action; else a PATCH is tried.
    pub has_insert_action: bool,
    /// True when something is in it. What, is not told: media URLs are secrets.
    pub inserted: bool,
}

/// Looks at the BMC behind `access`. Never fails: what goes wrong is in [`ProbeReport::problems`].
pub async fn probe(access: &Access, config: RedfishConfig) -> ProbeReport {
    let mut report = survey(access, config).await;
    report.can_onboard = report.problems.is_empty();
    report
}
