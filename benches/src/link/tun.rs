//! TUN devices and interface settings, by ioctl. The crate's only calls of ioctl(2) are here.

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};

use crate::{Error, Result};

const NAME: &str = "lab0";
const MTU: i32 = 1500;

/// include/uapi/linux/ipv6.h: `struct in6_ifreq`.
#[repr(C)]
struct In6Ifreq {
    addr: [u8; 16],
    prefix_len: u32,
    ifindex: i32,
}

fn request(name: &str) -> libc::ifreq {
    // SAFETY: `ifreq` is plain integers and bytes, for which all zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request
        .ifr_name
        .iter_mut()
        .zip(name.bytes().take(libc::IFNAMSIZ - 1))
    {
        *to = from as libc::c_char;
    }
    request
}

/// An ioctl that reads or fills `argument`.
fn ioctl<T>(fd: &OwnedFd, what: &str, number: libc::c_ulong, argument: &mut T) -> Result<()> {
    // SAFETY: each caller passes the structure that the request number calls for, and the kernel uses
    // it only during the call.
    let rc = unsafe { libc::ioctl(fd.as_raw_fd(), number as _, std::ptr::from_mut(argument)) };
    Errno::result(rc)
        .map(drop)
        .map_err(Error::doing(format!("{what} of a network interface")))
}

fn control(family: AddressFamily) -> Result<OwnedFd> {
    socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .map_err(Error::doing("cannot open a socket"))
}

/// Sets an interface of the calling thread's namespace up.
pub(crate) fn bring_up(name: &str) -> Result<()> {
    let inet = control(AddressFamily::Inet)?;
    let mut request = request(name);
    // Its other flags stay: without a TUN's IFF_NOARP, IPv6 would send reports of multicast groups.
    ioctl(
        &inet,
        "cannot read the flags",
        libc::SIOCGIFFLAGS as _,
        &mut request,
    )?;
    // SAFETY: SIOCGIFFLAGS has filled this member of the union, and zero would be valid too.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as libc::c_short;
    ioctl(
        &inet,
        "cannot set the flags",
        libc::SIOCSIFFLAGS as _,
        &mut request,
    )
}

/// What a device of the calling thread's namespace may do to packets; see ethtool(8), `-K`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Feature {
    /// Leave it to the device to make segments of what it sends.
    Tso,
    /// Put segments together that came in one round.
    Gro,
}

/// include/uapi/linux/ethtool.h: `struct ethtool_value`.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// Switches a feature on or off.
pub(crate) fn set_feature(device: &str, feature: Feature, on: bool) -> Result<()> {
    let mut value = EthtoolValue {
        // ETHTOOL_STSO, ETHTOOL_SGRO
        command: match feature {
            Feature::Tso => 0x1f,
            Feature::Gro => 0x2c,
        },
        data: on.into(),
    };
    let mut request = request(device);
    request.ifr_ifru.ifru_data = std::ptr::from_mut(&mut value).cast();
    ioctl(
        &control(AddressFamily::Inet)?,
        "cannot set a feature",
        libc::SIOCETHTOOL as _,
        &mut request,
    )
}

fn ipv4(address: Ipv4Addr) -> libc::sockaddr {
    let [a, b, c, d] = address.octets();
    let mut data = [0 as libc::c_char; 14];
    for (to, from) in data[2..6].iter_mut().zip([a, b, c, d]) {
        *to = from as libc::c_char;
    }
    libc::sockaddr {
        sa_family: libc::AF_INET as _,
        sa_data: data,
    }
}

/// Makes a device in the calling thread's namespace.
fn create(kind: libc::c_int) -> Result<OwnedFd> {
    let path = c"/dev/net/tun";
    // SAFETY: the path is NUL-terminated; the result is checked before it is owned.
    let fd = unsafe {
        libc::open(
            path.as_ptr(),
            libc::O_RDWR | libc::O_NONBLOCK | libc::O_CLOEXEC,
        )
    };
    let fd = Errno::result(fd).map_err(Error::doing(
        "cannot open /dev/net/tun (run as root; modprobe tun)",
    ))?;
    // SAFETY: a new descriptor that nobody else has.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };

    let mut device = request(NAME);
    device.ifr_ifru.ifru_flags = (kind | libc::IFF_NO_PI) as libc::c_short;
    ioctl(
        &fd,
        "cannot make TUN device",
        libc::TUNSETIFF as _,
        &mut device,
    )?;
    Ok(fd)
}

/// Sets the device's size, queue and IPv4 network.
fn settings(v4: Ipv4Addr, mask: Ipv4Addr) -> Result<()> {
    let inet = control(AddressFamily::Inet)?;
    let set = |what: &str, number: u64, fill: &dyn Fn(&mut libc::ifreq)| {
        let mut request = request(NAME);
        fill(&mut request);
        ioctl(&inet, what, number as _, &mut request)
    };
    set("cannot set the MTU", libc::SIOCSIFMTU as _, &|r| {
        r.ifr_ifru.ifru_mtu = MTU
    })?;
    set(
        "cannot set the queue length",
        libc::SIOCSIFTXQLEN as _,
        &|r| r.ifr_ifru.ifru_metric = 20_000,
    )?;
    set("cannot set the address", libc::SIOCSIFADDR as _, &|r| {
        r.ifr_ifru.ifru_addr = ipv4(v4)
    })?;
    set("cannot set the netmask", libc::SIOCSIFNETMASK as _, &|r| {
        r.ifr_ifru.ifru_netmask = ipv4(mask)
    })
}

/// Makes a device of Ethernet frames in the calling thread's namespace, up, without IPv6.
pub(crate) fn open_ethernet(v4: Ipv4Addr, mask: Ipv4Addr) -> Result<OwnedFd> {
    let fd = create(libc::IFF_TAP)?;
    settings(v4, mask)?;
    // Fails only where there is no IPv6 anyway.
    let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{NAME}/disable_ipv6"), "1");
    bring_up(NAME)?;
    Ok(fd)
}

/// Makes the device in the calling thread's namespace, with its addresses, up.
pub(super) fn open(v4: Ipv4Addr, v6: Ipv6Addr) -> Result<OwnedFd> {
    let fd = create(libc::IFF_TUN | libc::IFF_VNET_HDR)?;
    let offload = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
    // SAFETY: TUNSETOFFLOAD takes its argument by value.
    let rc = unsafe {
        libc::ioctl(
            fd.as_raw_fd(),
            libc::TUNSETOFFLOAD as _,
            libc::c_ulong::from(offload),
        )
    };
    Errno::result(rc).map_err(Error::doing("cannot switch segmentation offload on"))?;

    settings(v4, Ipv4Addr::new(255, 255, 255, 0))?;
    // The kernel must send nothing of its own: a link-local address, router solicitations and the
    // like would be counted, and take random numbers. No address is tried out before use either.
    let quiet = [
        ("addr_gen_mode", "1"),
        ("router_solicitations", "0"),
        ("accept_dad", "0"),
    ];
    let mut v6_works = true;
    for (name, value) in quiet {
        v6_works &= fs::write(format!("/proc/sys/net/ipv6/conf/{NAME}/{name}"), value).is_ok();
    }
    bring_up(NAME)?;
    if v6_works {
        let index =
            nix::net::if_::if_nametoindex(NAME).map_err(Error::doing("cannot find the device"))?;
        let mut request = In6Ifreq {
            addr: v6.octets(),
            prefix_len: 64,
            ifindex: index as i32,
        };
        let inet6 = control(AddressFamily::Inet6)?;
        ioctl(
            &inet6,
            "cannot set the IPv6 address",
            libc::SIOCSIFADDR as _,
            &mut request,
        )?;
    }
    Ok(fd)
}
