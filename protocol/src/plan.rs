//! The plan: everything an agent may do to one host in one operation. What is not in it is not done.

use crate::facts::{ConfigDriveKind, Disk, FinalBoot, ImageFormat, ReadBack, RootDevice, WipePolicy};
use crate::token;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What the agent is to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// UID of the Host it is for. An agent with media for another host does nothing.
    pub host_uid: String,
    /// The operation it belongs to.
    pub operation_id: String,
    /// MAC addresses of which the machine must have at least one, lower case.
    pub boot_macs: Vec<String>,
    /// When it was handed out, by the boot service's clock.
    pub issued_at: Timestamp,
    /// When the manager gives up on it, by the same clock. The agent works for no longer than the time between the two,
    /// whatever the machine's own clock says.
    pub deadline: Timestamp,
    /// The one thing to do.
    pub action: Action,
}

/// The one thing to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum Action {
    /// Look at the hardware and report it. Touches no disk.
    Inspect,
    /// Write an image and a config drive to one disk.
    Deploy(Deploy),
    /// Hand over to an installer.
    Install(Install),
    /// Do what can be done before anybody claims the machine, and then wait for another plan.
    Prepare(Prepare),
    /// Wipe all disks.
    #[serde(rename_all = "camelCase")]
    Wipe {
        /// How.
        policy: WipePolicy,
        /// The disks that the last inspection found. One that is not there any more was not wiped, whatever else was.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        known: Vec<Disk>,
    },
}

/// Write an image and a config drive to one disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deploy {
    /// What is fetched.
    pub image: Image,
    /// Which disk; no hints mean the only one.
    pub root_device: Option<RootDevice>,
    /// What the operating system reads at its first boot.
    pub config_drive: ConfigDrive,
    /// How it is started.
    #[serde(default)]
    pub final_boot: FinalBoot,
    /// How much of what was written is read again and compared.
    #[serde(default)]
    pub read_back: ReadBack,
}

/// Write an image to one disk, but for its ends: nothing starts from it until a deployment of that image is done. Without
/// an image there is nothing to do but to wait.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Prepare {
    /// What is fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    /// Which disk; no hints mean the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_device: Option<RootDevice>,
    /// How much of what was written is read again and compared.
    #[serde(default)]
    pub read_back: ReadBack,
}

/// Stands in `Install::command_line` and in the content of `Install::files` wherever the path of the disk belongs: the
/// agent, which alone can see the disks, puts the stable path of the one that the hints resolve to in its place.
pub const DISK: &str = "@RACKWRIGHT_DISK@";

/// Start an installer by kexec: it writes the disk and reports back itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Install {
    /// The installer's kernel.
    pub kernel: Image,
    /// Its initial ramdisk, as served: the agent does not unpack it.
    pub initrd: Image,
    /// Its kernel command line, with [`DISK`] where the disk belongs. Holds no secret: anybody can read it.
    pub command_line: String,
    /// Files that the agent appends to the initial ramdisk: the answers. So nothing is fetched, and no secret stands in
    /// a URL or on the command line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<InstallFile>,
    /// Which disk; no hints mean the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_device: Option<RootDevice>,
}

/// A file in an installer's initial ramdisk, of root's and for root alone.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstallFile {
    /// Absolute, for example `/ks.cfg`.
    pub path: String,
    /// Content, with [`DISK`] where the disk belongs. May hold secrets.
    pub content: String,
}

impl std::fmt::Debug for InstallFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InstallFile").field("path", &self.path).finish_non_exhaustive()
    }
}

/// An image behind a URL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// http or https.
    pub url: String,
    /// `sha256:` or `sha512:` and hex digits, of the bytes as served.
    pub digest: String,
    /// How they are packed.
    pub format: ImageFormat,
}

/// The content of a config drive.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigDrive {
    /// Which one the image reads.
    #[serde(default)]
    pub kind: ConfigDriveKind,
    /// `user-data`, as the bootstrap provider made it.
    pub user_data: String,
    /// `meta-data`: a JSON object (JSON is YAML) with `instance-id`, `local-hostname`, `provider_id` and more.
    pub meta_data: String,
}

impl std::fmt::Debug for ConfigDrive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConfigDrive").field("meta_data", &self.meta_data).finish_non_exhaustive()
    }
}

/// A plan as text, signed with the token that its agent holds: only who made the media can have made the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignedPlan {
    /// The plan, JSON.
    plan: String,
    /// Signature over exactly that text.
    signature: String,
}

/// Why a plan is not to be followed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Not signed with this token.
    #[error("the plan's signature does not fit the token")]
    BadSignature,
    /// Not a plan.
    #[error("the plan makes no sense: {0}")]
    Malformed(String),
    /// For another host or operation.
    #[error("the plan is for {found}, this media is for {expected}")]
    NotOurs {
        /// Host and operation in the plan.
        found: String,
        /// Host and operation on the media.
        expected: String,
    },
}

impl SignedPlan {
    /// Signs `plan` with the agent's token.
    pub fn sign(plan: &Plan, token: &str) -> Result<SignedPlan, PlanError> {
        let plan = serde_json::to_string(plan).map_err(|why| PlanError::Malformed(why.to_string()))?;
        let signature = token::sign(token, &plan);
        Ok(SignedPlan { plan, signature })
    }

    /// The plan, if it is signed with `token` and made for this host and operation.
    pub fn open(&self, token: &str, host_uid: &str, operation_id: &str) -> Result<Plan, PlanError> {
        if !token::verify(token, &self.plan, &self.signature) {
            return Err(PlanError::BadSignature);
        }
        let plan: Plan = serde_json::from_str(&self.plan).map_err(|why| PlanError::Malformed(why.to_string()))?;
        if plan.host_uid != host_uid || plan.operation_id != operation_id {
            return Err(PlanError::NotOurs {
                found: format!("{}/{}", plan.host_uid, plan.operation_id),
                expected: format!("{host_uid}/{operation_id}"),
            });
        }
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            host_uid: "host".into(),
            operation_id: "op".into(),
            boot_macs: vec!["52:54:00:00:00:01".into()],
            issued_at: Timestamp::UNIX_EPOCH,
            deadline: Timestamp::UNIX_EPOCH,
            action: Action::Wipe { policy: WipePolicy::Discard, known: Vec::new() },
        }
    }

    #[test]
    fn the_answers_of_an_installer_do_not_print_themselves() {
        let file = InstallFile { path: "/ks.cfg".into(), content: "rootpw hunter2".into() };
        assert_eq!(format!("{file:?}"), r#"InstallFile { path: "/ks.cfg", .. }"#);
    }

    #[test]
    fn only_a_plan_signed_with_the_token_for_this_host_and_operation_opens() {
        let signed = SignedPlan::sign(&plan(), "token").expect("signs");
        assert_eq!(signed.open("token", "host", "op"), Ok(plan()));
        assert_eq!(signed.open("other", "host", "op"), Err(PlanError::BadSignature));
        assert!(matches!(signed.open("token", "another", "op"), Err(PlanError::NotOurs { .. })));
        assert!(matches!(signed.open("token", "host", "earlier"), Err(PlanError::NotOurs { .. })));
        let forged = SignedPlan { plan: signed.plan.replace("Discard", "SecureErase"), ..signed };
        assert_eq!(forged.open("token", "host", "op"), Err(PlanError::BadSignature));
    }
}
