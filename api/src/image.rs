//! OSImage: an operating system as it comes to a disk, by an image that is written or by an installer.

use crate::installer::Installer;
use kube::{CustomResource, KubeSchema};
pub use rackwright_protocol::facts::{ConfigDriveKind, FinalBoot, ImageFormat};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `sha256:` or `sha512:` and lower-case hex digits.
pub type ImageDigest = String;

/// An operating system as it comes to a disk. Set exactly one of `disk` and `installer`.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "rackwright.dev",
    version = "v1alpha1",
    kind = "OSImage",
    plural = "osimages",
    namespaced,
    derive = "PartialEq",
    category = "rackwright",
    doc = "An operating system as it comes to a disk: by an image that is written, or by an installer.",
    label("clusterctl.cluster.x-k8s.io/move", ""),
    printcolumn(name = "Architecture", type_ = "string", json_path = ".spec.architecture"),
    printcolumn(name = "Kubernetes", type_ = "string", json_path = ".spec.kubernetesVersion"),
    printcolumn(name = "Disk", type_ = "string", json_path = ".spec.disk.url", priority = 1),
    printcolumn(name = "Installer", type_ = "string", json_path = ".spec.installer.kernel.url", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.disk) != has(self.installer)").message("set exactly one of spec.disk (an image that is written as it is) and spec.installer (a kernel and initrd that install)"))]
pub struct OSImageSpec {
    /// Processor architecture of the hosts it runs on.
    #[serde(default)]
    pub architecture: Architecture,
    /// Version of the kubelet in it, for example `v1.36.3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_version: Option<String>,
    /// The image that is written to the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskImage>,
    /// The installer that is started in its stead. The operating system it installs needs cloud-init.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installer: Option<Installer>,
    /// Which config drive its operating system reads. Of no meaning to an installer, which leaves the same data in the
    /// folder that cloud-init's NoCloud reads.
    #[serde(default)]
    pub config_drive: ConfigDriveKind,
    /// How it is started once it is written. What an installer wrote is started by PowerCycle.
    #[serde(default)]
    pub final_boot: FinalBoot,
}

/// A disk image behind a URL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DiskImage {
    /// Where it is: `http://` or `https://` (the digest guards it, so http is enough), or an OCI artifact by the digest
    /// of its manifest, `oci://REGISTRY/REPOSITORY@sha256:...`.
    #[x_kube(validation = ("self.startsWith('http://') || self.startsWith('https://') || self.matches('^oci://[^/@]+/[^@]+@sha256:[0-9a-f]{64}$')", "disk.url must start with http:// or https://, or be oci://REGISTRY/REPOSITORY@sha256: and 64 lower-case hex digits"))]
    #[schemars(length(min = 8, max = 2048))]
    pub url: String,
    /// Digest of the file behind the URL (as served, not unpacked): `sha256:` and 64, or `sha512:` and 128, hex digits.
    /// Of an OCI artifact: the digest of the layer that is the image, or once more that of the manifest when it has only
    /// one such layer.
    #[x_kube(validation = ("self.matches('^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$')", "disk.digest must be sha256: and 64, or sha512: and 128, lower-case hex digits"))]
    #[schemars(length(max = 135))]
    pub digest: ImageDigest,
    /// How the file is packed.
    #[serde(default)]
    pub format: ImageFormat,
}

/// Processor architecture, as Go and Kubernetes name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// x86-64.
    #[default]
    Amd64,
    /// 64-bit Arm.
    Arm64,
}

impl Architecture {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Architecture::Amd64 => "amd64",
            Architecture::Arm64 => "arm64",
        }
    }
}
