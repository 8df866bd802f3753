use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn parses_any_bytes_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..48)) {
        if let Some(taken) = Taken::parse(&bytes) {
            let _ = taken.per_second();
        }
    }
}

#[test]
fn parses_an_event() {
    let mut body = Vec::new();
    for number in [7u32, 1, 9000, 1500] {
        body.extend(number.to_ne_bytes());
    }
    body.extend(*b"veth0\0\0\0\0\0\0\0\0\0\0\0");
    body.extend([4500u32, 1, 1, 0].map(u32::to_ne_bytes).concat());
    let taken = Taken::parse(&body).unwrap();
    assert_eq!((taken.device.ifindex, taken.cpu), (7, 1));
    assert_eq!(taken.device.name, "veth0");
    assert_eq!((taken.per_second(), taken.elsewhere), (6000.0, 4500));
    assert_eq!((taken.queues, taken.by_hash), (1, true));
    assert_eq!(Taken::parse(&body[..43]), None);
}

#[test]
fn readers_are_watched_while_a_hash_alone_steers() {
    let mut source = IrqSteerSource::new(Vec::new()).unwrap();
    let start = Instant::now();
    let mut watch = |seen, after| {
        source.watch_readers(seen, start + Duration::from_secs(after));
        source.steered.is_some()
    };
    assert!(!watch(false, 0), "no such device yet");
    assert!(watch(true, 1));
    assert!(watch(false, 10), "another device's events in between");
    assert!(watch(true, 10));
    assert!(watch(false, 19));
    assert!(!watch(false, 20), "it follows its readers now");
}

#[test]
fn mirrors_the_program() {
    let program = include_str!("../irq_steer.bpf.c");
    let fields = |name: &str| -> Vec<String> {
        let body = program.split_once(&format!("struct {name} {{")).unwrap().1;
        body.lines()
            .map(str::trim)
            .take_while(|line| *line != "};")
            .filter_map(|line| Some(line.strip_suffix(';')?.to_owned()))
            .collect()
    };
    assert_eq!(
        fields("irq_steer_event")[1..],
        [
            "__u32 ifindex",
            "__u32 cpu",
            "__u32 packets",
            "__u32 over_ms",
            "char device[16]",
            "__u32 elsewhere",
            "__u32 queues",
            "__u32 by_hash",
            "__u32 pad"
        ]
    );
    assert_eq!(
        fields("lane"),
        ["__u64 netns_cookie", "__u32 ifindex", "__u32 cpu"]
    );
    assert_eq!(
        fields("packets"),
        ["__u64 since_ns", "__u64 now", "__u64 total"]
    );
    assert_eq!(lane(NetnsCookie(1), 2, 3)[8], 2);
}
