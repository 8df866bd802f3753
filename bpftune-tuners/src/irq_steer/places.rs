//! Processors that may share work: those of one memory node, without those that somebody set apart.

use std::{fs, path::Path};

use bpftune_core::Cpus;

/// Each memory node's.
pub(super) fn of_host() -> Vec<Cpus> {
    let files = |folder: &str, name: &str| Cpus::in_file(&Path::new(folder).join(name));
    const CPU: &str = "/sys/devices/system/cpu";
    let apart = [files(CPU, "isolated"), files(CPU, "nohz_full")];
    let nodes = fs::read_dir("/sys/devices/system/node");
    let nodes = nodes.into_iter().flatten().flatten().filter(|entry| {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("node"));
        number.is_some_and(|number| number.parse::<u32>().is_ok())
    });
    let nodes = nodes
        .map(|entry| Cpus::in_file(&entry.path().join("cpulist")))
        .collect();
    sharing(&Cpus::online(), &apart, nodes)
}

/// Of all that are online, without those set apart, node by node; a kernel without nodes has one.
fn sharing(online: &Cpus, apart: &[Cpus], nodes: Vec<Cpus>) -> Vec<Cpus> {
    let free = apart
        .iter()
        .fold(online.clone(), |free, apart| free.without(apart));
    let nodes = if nodes.is_empty() {
        vec![free.clone()]
    } else {
        nodes
    };
    let mut places: Vec<Cpus> = nodes.iter().map(|node| node.and(&free)).collect();
    places.retain(|place| !place.is_empty());
    places.sort();
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(list: &str) -> Cpus {
        list.parse().unwrap()
    }

    #[test]
    fn isolated_processors_share_nothing() {
        let apart = [cpus("2"), cpus("7")];
        assert_eq!(
            sharing(&cpus("0-7"), &apart, vec![cpus("4-7"), cpus("0-3")]),
            [cpus("0-1,3"), cpus("4-6")]
        );
        assert_eq!(
            sharing(&cpus("0-3"), &[cpus("1-3")], Vec::new()),
            [cpus("0")]
        );
        assert!(sharing(&cpus("0-1"), &[cpus("0-1")], vec![cpus("0-1")]).is_empty());
    }

    #[test]
    fn this_host_has_places_of_processors_that_are_online() {
        let online = Cpus::online();
        for place in of_host() {
            assert!(place.is_within(&online), "{place}");
        }
    }
}
