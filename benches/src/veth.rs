//! Two namespaces with a pair of virtual Ethernet devices between them, as containers have.

use std::net::Ipv4Addr;

use bpftune_core::Cpus;

use crate::{Error, Result, netns::Netns, programs::ip};

/// The pair. Devices go with their namespaces.
pub struct Pair {
    /// One of them.
    pub near: Netns,
    /// The other one.
    pub far: Netns,
}

impl Pair {
    /// The device in each of them.
    pub const DEVICE: &str = "veth0";
    /// Address of the near one.
    pub const NEAR: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 1);
    /// Address of the far one.
    pub const FAR: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 2);

    /// Makes them.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN and CAP_NET_ADMIN, or ip(8).
    pub fn new() -> Result<Pair> {
        let pair = Pair {
            near: Netns::new()?,
            far: Netns::new()?,
        };
        let device = Self::DEVICE;
        let far = pair.far.path();
        let link = format!(
            "link add {device} type veth peer name {device} netns {}\n",
            far.display()
        );
        ip(&pair.near, &link)?;
        for (netns, address) in [(&pair.near, Self::NEAR), (&pair.far, Self::FAR)] {
            let up = format!("address add {address}/24 dev {device}\nlink set {device} up\n");
            ip(netns, &up)?;
        }
        Ok(pair)
    }

    /// Has packets that arrive in the far namespace handled by these processors.
    ///
    /// # Errors
    /// As [`write_queue`].
    pub fn steer(&self, to: &Cpus) -> Result<()> {
        write_queue(&self.far, "rps_cpus", &to.mask())
    }
}

/// Writes a file of the device's receive queue in one of the namespaces.
///
/// # Errors
/// Where the kernel refuses the value, or has no such file.
pub fn write_queue(netns: &Netns, name: &str, value: &str) -> Result<()> {
    let file = format!("/sys/class/net/{}/queues/rx-0/{name}", Pair::DEVICE);
    let script = format!("mount -t sysfs none /sys && echo {value} >{file}");
    let status = netns
        .command("unshare")
        .args(["--mount", "sh", "-c", &script])
        .status()
        .map_err(Error::doing("cannot start unshare"))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::other("unshare failed", status))
}
