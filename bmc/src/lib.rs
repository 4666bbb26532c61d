//! What Rackwright asks of a baseboard management controller, whatever it speaks.
//!
//! Every verb names a target state and may be repeated. Power is three-valued: an error is "unknown", never "off".
//! Nothing here decides when to ask, and nothing knows of Kubernetes.

pub mod access;
pub mod error;
pub mod probe;
pub mod redfish;
#[cfg(feature = "story")]
pub mod story;

pub use access::{Access, Trust};
pub use error::{Error, Result};

use async_trait::async_trait;
use std::sync::Arc;

/// One machine behind one BMC.
///
/// Calls on one BMC are made one at a time and each has a deadline; both are the implementation's duty.
#[async_trait]
pub trait Bmc: Send + Sync {
    /// Power, boot device and identity, in as few requests as it takes.
    async fn system(&self) -> Result<System>;

    /// What is in the virtual CD drive.
    async fn media(&self) -> Result<Media>;

    /// The machine is being switched to `target`. `Off` is immediate (the operating system is not asked).
    /// Success means that the BMC took the order, not that the machine is there yet: read [`Bmc::system`] again.
    /// On a machine already there it does nothing.
    async fn set_power(&self, target: PowerTarget) -> Result<()>;

    /// `url` is in the virtual CD drive; what was there before is ejected. Success means that it was read back.
    async fn insert_media(&self, url: &str) -> Result<()>;

    /// The virtual CD drive is empty. Success means that it was read back.
    async fn eject_media(&self) -> Result<()>;

    /// At its next start the machine boots from `device`. Success means that it was read back. [`BootDevice::Http`] needs
    /// a URL: [`Bmc::set_http_boot`].
    async fn set_boot(&self, device: BootDevice) -> Result<()>;

    /// At its next start the machine's UEFI firmware fetches what is at `url` and boots it. Success means that it was read
    /// back, the URL as far as the BMC shows one.
    async fn set_http_boot(&self, url: &str) -> Result<()>;

    /// The locator light is on or off. BMCs without one answer [`Error::Unsupported`].
    async fn set_locator(&self, on: bool) -> Result<()>;
}

/// How a BMC is reached. Implementations keep one session per BMC.
#[async_trait]
pub trait Connect: Send + Sync {
    /// The BMC behind `access`; no request is made yet. The same access gives the same session.
    async fn bmc(&self, access: &Access) -> Result<Arc<dyn Bmc>>;
}

/// What a BMC says of its machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct System {
    /// Power, `None` when the BMC itself does not know or says something unheard of.
    pub power: Option<Power>,
    /// Where the machine boots from at its next start.
    pub boot: BootDevice,
    /// What [`BootDevice::Http`] fetches, as far as the BMC shows it.
    pub boot_uri: Option<String>,
    /// What it can be told to boot.
    pub bootable: Bootable,
    /// SMBIOS system UUID, lower case.
    pub uuid: Option<String>,
    /// Manufacturer.
    pub vendor: Option<String>,
    /// Model.
    pub model: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// `OK`, `Warning` or `Critical`, as the BMC sums it up.
    pub health: Option<String>,
}

/// Power of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Power {
    /// On, or being switched on.
    On,
    /// Off for certain. A machine that is being switched off still counts as on.
    Off,
}

/// Where power is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PowerTarget {
    /// On.
    On,
    /// Off, at once.
    Off,
}

/// Where a machine boots from at its next start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BootDevice {
    /// As its own boot order says: for our hosts, the disk.
    #[default]
    Disk,
    /// The virtual CD, once where the BMC can.
    Cd,
    /// A URL that UEFI firmware fetches, once where the BMC can.
    Http,
    /// Whatever DHCP tells the network card to load, once where the BMC can.
    Pxe,
    /// Something that somebody else set, for example a USB stick.
    Other,
}

/// What a BMC lets its machine be told to boot, as far as it says so: where it lists nothing, a CD and the network may be
/// tried. Whether there is a drive for the CD, [`Bmc::media`] tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bootable {
    /// [`BootDevice::Cd`].
    pub cd: bool,
    /// [`BootDevice::Http`].
    pub http: bool,
    /// [`BootDevice::Pxe`].
    pub pxe: bool,
}

/// What is in the virtual CD drive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Media {
    /// URL of the inserted image; `None` when the drive is empty.
    pub url: Option<String>,
}
