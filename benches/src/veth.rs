//! Two namespaces with a pair of virtual Ethernet devices between them, as containers have.

use std::{net::Ipv4Addr, process::Command};

use bpftune_core::Cpus;

use crate::{Error, Result, netns::Netns};

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
        let far = pair.far.path();
        let mut link = pair.near.command("ip");
        link.args([
            "link",
            "add",
            Self::DEVICE,
            "type",
            "veth",
            "peer",
            "name",
            Self::DEVICE,
        ]);
        done(link.arg("netns").arg(far))?;
        for (netns, address) in [(&pair.near, Self::NEAR), (&pair.far, Self::FAR)] {
            let address = format!("{address}/24");
            let device = Self::DEVICE;
            done(
                netns
                    .command("ip")
                    .args(["address", "add", &address, "dev", device]),
            )?;
            done(netns.command("ip").args(["link", "set", device, "up"]))?;
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
    let mut unshare = netns.command("unshare");
    done(unshare.args(["--mount", "sh", "-c", &script]))
}

/// Runs a command to its end.
fn done(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .map_err(Error::doing(format!("cannot start {name}")))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::other(format!("{name} failed"), status))
}
