//! Who the tasks are when there are many: a load that needs room, or a fork bomb.

use std::{collections::HashMap, time::Duration};

use bpftune_core::{Figure, bpf::Fields};

/// Tasks younger than this came "just now".
const YOUNG: Duration = Duration::from_secs(10);

/// `struct process` of the BPF program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// 0: it lost its own.
    pub(super) parent: u32,
    pub(super) uid: u32,
    pub(super) threads: u32,
    pub(super) age: Duration,
    pub(super) name: [u8; 16],
}

impl Process {
    pub(super) const SIZE: usize = 40;

    pub(super) fn parse(bytes: &[u8]) -> Option<Process> {
        let bytes = Fields(bytes);
        Some(Process {
            pid: bytes.u32(0)?,
            parent: bytes.u32(4)?,
            uid: bytes.u32(8)?,
            threads: bytes.u32(12)?,
            age: Duration::from_nanos(bytes.u64(16)?),
            name: bytes.bytes(24)?,
        })
    }
}

/// The tasks, and the largest group of processes with one name and one user among them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Crowd {
    /// Threads of all processes.
    pub(super) tasks: f64,
    /// Processes of the largest group.
    pub(super) kin: f64,
    /// Of these, those that have the same living parent.
    pub(super) brood: f64,
    /// Of these, those that came just now.
    pub(super) young: f64,
    /// Their name and user.
    pub(super) name: String,
    pub(super) uid: u32,
}

impl Crowd {
    /// Of what the iterator wrote.
    pub(super) fn parse(bytes: &[u8]) -> Crowd {
        let processes: Vec<Process> = bytes
            .chunks_exact(Process::SIZE)
            .filter_map(Process::parse)
            .collect();
        Crowd::of(&processes)
    }

    pub(super) fn of(processes: &[Process]) -> Crowd {
        let mut groups: HashMap<(u32, [u8; 16]), Vec<&Process>> = HashMap::new();
        for process in processes {
            let key = (process.uid, process.name);
            groups.entry(key).or_default().push(process);
        }
        let tasks = processes.iter().map(|p| f64::from(p.threads)).sum();
        let Some(((uid, name), group)) = groups.into_iter().max_by_key(|(_, group)| group.len())
        else {
            return Crowd::default();
        };
        let mut broods: HashMap<u32, u32> = HashMap::new();
        for process in group.iter().filter(|process| process.parent != 0) {
            *broods.entry(process.parent).or_default() += 1;
        }
        Crowd {
            tasks,
            kin: group.len() as f64,
            brood: broods.into_values().max().unwrap_or(0).into(),
            young: group.iter().filter(|process| process.age < YOUNG).count() as f64,
            name: Fields(&name).text(0, name.len()).unwrap_or_default(),
            uid,
        }
    }

    pub(super) fn figures(&self) -> [Figure; 4] {
        [
            Figure::new("tasks", self.tasks, ""),
            Figure::new("kin", self.kin, ""),
            Figure::new("brood", self.brood, ""),
            Figure::new("young", self.young, ""),
        ]
    }
}

/// What makes a crowd one that no limit is raised for: half of all tasks are processes of one name and one user, and
/// either have many parents or none (they multiply by themselves), or came within seconds and may go on so.
pub(super) fn bomb(tasks: f64, kin: f64, brood: f64, young: f64) -> Option<&'static str> {
    if kin * 2.0 < tasks {
        return None;
    }
    if brood * 2.0 < kin {
        return Some("they multiply by themselves");
    }
    (young * 2.0 > kin).then_some("most of them came within the last seconds")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn process(pid: u32, parent: u32, name: &str, threads: u32, age: u64) -> Process {
        let mut bytes = [0; 16];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Process {
            pid,
            parent,
            uid: 1000,
            threads,
            age: Duration::from_secs(age),
            name: bytes,
        }
    }

    fn verdict(processes: &[Process]) -> Option<&'static str> {
        let crowd = Crowd::of(processes);
        bomb(crowd.tasks, crowd.kin, crowd.brood, crowd.young)
    }

    proptest! {
        #[test]
        fn reads_any_bytes_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let crowd = Crowd::parse(&bytes);
            let _ = bomb(crowd.tasks, crowd.kin, crowd.brood, crowd.young);
        }
    }

    #[test]
    fn a_server_of_many_threads_is_none() {
        let crowd = [
            process(1, 0, "init", 1, 900),
            process(9, 1, "java", 20_000, 60),
        ];
        assert_eq!(verdict(&crowd), None);
        assert_eq!(Crowd::of(&crowd).tasks, 20_001.0);
    }

    #[test]
    fn workers_of_one_server_are_none_once_they_have_been_there_for_a_while() {
        let workers = |age| -> Vec<_> {
            (100..5100)
                .map(|pid| process(pid, 42, "postgres", 1, age))
                .collect()
        };
        assert_eq!(verdict(&workers(60)), None);
        assert!(verdict(&workers(3)).unwrap().contains("seconds"));
    }

    #[test]
    fn what_forks_itself_is_one_at_any_age() {
        for age in [1, 600] {
            let tree: Vec<_> = (100..5100)
                .map(|pid| process(pid, pid / 2, "sh", 1, age))
                .collect();
            assert!(verdict(&tree).unwrap().contains("multiply"));
            let orphans: Vec<_> = (100..5100)
                .map(|pid| process(pid, 0, "sh", 1, age))
                .collect();
            assert!(verdict(&orphans).unwrap().contains("multiply"));
        }
    }

    #[test]
    fn many_different_programs_are_none() {
        let many: Vec<_> = (0..5000)
            .map(|pid| process(pid, 0, &format!("p{}", pid % 7), 2, 1))
            .collect();
        assert_eq!(verdict(&many), None);
    }

    #[test]
    fn parses_what_the_iterator_writes() {
        let mut bytes = Vec::new();
        for number in [7u32, 3, 1000, 4] {
            bytes.extend(number.to_ne_bytes());
        }
        bytes.extend(5_000_000_000u64.to_ne_bytes());
        bytes.extend(*b"make\0\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(bytes.len(), Process::SIZE);
        let crowd = Crowd::parse(&bytes);
        assert_eq!(
            (crowd.tasks, crowd.kin, crowd.brood, crowd.young),
            (4.0, 1.0, 1.0, 1.0)
        );
        assert_eq!((crowd.name.as_str(), crowd.uid), ("make", 1000));
    }
}
