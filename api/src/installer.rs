//! Installers: operating systems that write themselves to the disk, from the answers that Rackwright gives them.
//!
//! An OSImage says which installer and what it is to install; a claim holds the same with everything resolved, so that
//! a later edit touches no host. How answers are written is the crate `bootstrap`'s.

use crate::common::KeyReference;
use crate::image::ImageDigest;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// A kernel and initial ramdisk that install an operating system, and their answers. Set exactly one of `kickstart` and
/// `preseed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.kickstart) != has(self.preseed)").message("set exactly one of installer.kickstart (anaconda) and installer.preseed (debian-installer)"))]
pub struct Installer {
    /// Its kernel, as its distribution ships it.
    pub kernel: InstallerFile,
    /// Its initial ramdisk, as its distribution ships it; the answers are appended to it on the host.
    pub initrd: InstallerFile,
    /// More arguments of its kernel, for example `inst.stage2=http://mirror.example.com/fedora/`. Anybody who can log
    /// in to the host can read them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 1024)))]
    #[x_kube(validation = ("self.all(argument, argument.matches('^[!-~]+$'))", "an entry of kernelArguments is one word of printable ASCII: give each argument its own entry"))]
    #[x_kube(validation = ("!self.exists(argument, argument.startsWith('inst.ks=') || argument.startsWith('preseed/') || argument.startsWith('rackwright.'))", "leave inst.ks=, preseed/ and rackwright. out of kernelArguments: Rackwright hands over the answers itself"))]
    pub kernel_arguments: Vec<String>,
    /// Answers for anaconda (Fedora, CentOS, Red Hat and their kin).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kickstart: Option<Kickstart>,
    /// Answers for debian-installer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preseed: Option<Preseed>,
}

/// A file that an installer starts from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstallerFile {
    /// Where hosts fetch it: http or https. The digest guards it, so http is enough.
    #[x_kube(validation = ("self.startsWith('http://') || self.startsWith('https://')", "the url of a kernel or initrd must start with http:// or https://"))]
    #[schemars(length(min = 8, max = 2048))]
    pub url: String,
    /// Digest of the file: `sha256:` and 64, or `sha512:` and 128, hex digits.
    #[x_kube(validation = ("self.matches('^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$')", "the digest of a kernel or initrd must be sha256: and 64, or sha512: and 128, lower-case hex digits"))]
    #[schemars(length(max = 135))]
    pub digest: ImageDigest,
}

/// What anaconda is to install. Set exactly one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.configMapRef), has(self.ostree), has(self.packages)].filter(set, set).size() == 1").message("set exactly one of kickstart.configMapRef (a kickstart of your own), kickstart.ostree and kickstart.packages"))]
pub struct Kickstart {
    /// ConfigMap in the OSImage's namespace with a kickstart of your own: a template (minijinja), to which Rackwright
    /// appends what hands over the user-data, reports back and switches off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<KeyReference>,
    /// An ostree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ostree: Option<Ostree>,
    /// Packages from a repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packages: Option<Packages>,
}

/// An ostree to install: from a repository or from a container registry. Set exactly one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.setup) != has(self.container)").message("set exactly one of ostree.setup (a repository) and ostree.container (a container image)"))]
pub struct Ostree {
    /// From an ostree repository (`ostreesetup`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setup: Option<OstreeSetup>,
    /// From a container image (`ostreecontainer`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<OstreeContainer>,
}

/// An ostree in a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OstreeSetup {
    /// Name of the operating system inside the repository, for example `fedora-iot`.
    #[schemars(length(min = 1, max = 253))]
    pub osname: String,
    /// The repository.
    #[schemars(length(min = 1, max = 2048))]
    pub url: String,
    /// Which branch or commit, for example `fedora/stable/x86_64/iot`.
    #[serde(rename = "ref")]
    #[schemars(length(min = 1, max = 253))]
    pub reference: String,
    /// Whether signatures are checked.
    #[serde(default = "yes")]
    pub gpg: bool,
}

/// An ostree in a container image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OstreeContainer {
    /// The image, for example `quay.io/example/os@sha256:…`.
    #[schemars(length(min = 1, max = 2048))]
    pub url: String,
    /// How it is fetched; absent: `registry`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub transport: Option<String>,
    /// Name of the state root; absent: `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub stateroot: Option<String>,
    /// Name of the remote that updates are looked for at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub remote: Option<String>,
    /// Whether the image's signature is checked by ostree (`false`: the image is trusted because of its digest).
    #[serde(default = "yes")]
    pub signature_verification: bool,
}

/// Packages to install; `cloud-init` and `curl` come with them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Packages {
    /// The repository's base URL.
    #[schemars(length(min = 1, max = 2048))]
    pub url: String,
    /// More packages, or groups with `@` before their name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 253)))]
    pub names: Vec<String>,
}

/// What debian-installer is to install. Set exactly one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.configMapRef) != has(self.mirror)").message("set exactly one of preseed.configMapRef (a preseed of your own) and preseed.mirror"))]
pub struct Preseed {
    /// ConfigMap in the OSImage's namespace with a preseed of your own: a template (minijinja), to which Rackwright
    /// appends what hands over the user-data, reports back and switches off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<KeyReference>,
    /// Packages from a mirror.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Mirror>,
}

/// A mirror of Debian; `cloud-init` and `curl` are installed from it beside the standard system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Mirror {
    /// Its host, with the port when that is not 80, for example `deb.debian.org`.
    #[schemars(length(min = 1, max = 253))]
    pub host: String,
    /// Its folder, for example `/debian`.
    #[schemars(length(min = 1, max = 253))]
    pub directory: String,
    /// Which release, for example `bookworm`; absent: the installer's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub suite: Option<String>,
    /// More packages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 253)))]
    pub packages: Vec<String>,
}

/// An installer, resolved when the host was claimed. Its kernel is the claimed image's `url` and `digest`. It has one of
/// `kickstart` and `preseed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimedInstaller {
    /// Its initial ramdisk.
    pub initrd: InstallerFile,
    /// More arguments of its kernel.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 1024)))]
    pub kernel_arguments: Vec<String>,
    /// Answers for anaconda.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kickstart: Option<ClaimedKickstart>,
    /// Answers for debian-installer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preseed: Option<ClaimedPreseed>,
}

/// Longest answers of a person's own, bytes: they stand in the Host.
pub const ANSWERS_MAX: usize = 64 * 1024;

/// What anaconda is to install, resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimedKickstart {
    /// The person's own kickstart, as the ConfigMap had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    pub template: Option<String>,
    /// An ostree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ostree: Option<Ostree>,
    /// Packages from a repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packages: Option<Packages>,
}

/// What debian-installer is to install, resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimedPreseed {
    /// The person's own preseed, as the ConfigMap had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    pub template: Option<String>,
    /// Packages from a mirror.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Mirror>,
}

fn yes() -> bool {
    true
}

impl Installer {
    /// The key of the ConfigMap that has to be read before a host can be claimed for it.
    pub fn config_map_ref(&self) -> Option<&KeyReference> {
        let kickstart = self.kickstart.as_ref().and_then(|kickstart| kickstart.config_map_ref.as_ref());
        kickstart.or_else(|| self.preseed.as_ref()?.config_map_ref.as_ref())
    }

    /// What a claim holds of it. `template` is what [`Installer::config_map_ref`] names.
    pub fn resolved(&self, template: Option<&str>) -> ClaimedInstaller {
        let template = template.map(ToString::to_string);
        ClaimedInstaller {
            initrd: self.initrd.clone(),
            kernel_arguments: self.kernel_arguments.clone(),
            kickstart: self.kickstart.as_ref().map(|kickstart| ClaimedKickstart {
                template: template.clone(),
                ostree: kickstart.ostree.clone(),
                packages: kickstart.packages.clone(),
            }),
            preseed: self.preseed.as_ref().map(|preseed| ClaimedPreseed { template, mirror: preseed.mirror.clone() }),
        }
    }
}
