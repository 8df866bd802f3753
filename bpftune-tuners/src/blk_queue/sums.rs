//! What the BPF program counted of a device, and what became of it between two looks.

use bpftune_core::bpf::Fields;

/// Steps of the histogram, and the bit that its first power of two has.
pub(super) const STEPS: usize = 96;
const FIRST_BIT: u32 = 10;

/// `struct sums` of the BPF program, of all processors together.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sums {
    /// Reads and writes.
    pub(super) bios: [u64; 2],
    /// Bytes in them.
    pub(super) bytes: [u64; 2],
    /// Of how many the time was taken, and how long they waited in all, nanoseconds.
    pub(super) timed: [u64; 2],
    pub(super) waited_ns: [u64; 2],
    /// Reads by their time.
    pub(super) reads: Vec<u64>,
}

impl Default for Sums {
    fn default() -> Sums {
        Sums {
            bios: [0; 2],
            bytes: [0; 2],
            timed: [0; 2],
            waited_ns: [0; 2],
            reads: vec![0; STEPS],
        }
    }
}

impl Sums {
    /// Of each processor's bytes.
    pub(super) fn of(processors: &[Vec<u8>]) -> Option<Sums> {
        let mut sums = Sums::default();
        for bytes in processors {
            let bytes = Fields(bytes);
            let rows = [
                &mut sums.bios,
                &mut sums.bytes,
                &mut sums.timed,
                &mut sums.waited_ns,
            ];
            for (at, row) in rows.into_iter().enumerate() {
                for (way, sum) in row.iter_mut().enumerate() {
                    *sum = sum.wrapping_add(bytes.u64(at * 16 + way * 8)?);
                }
            }
            for (step, sum) in sums.reads.iter_mut().enumerate() {
                *sum += u64::from(bytes.u32(64 + step * 4)?);
            }
        }
        Some(sums)
    }

    /// What came since.
    pub(super) fn since(&self, before: &Sums) -> Sums {
        let less =
            |now: [u64; 2], then: [u64; 2]| [0, 1].map(|way| now[way].saturating_sub(then[way]));
        let pairs = self.reads.iter().zip(&before.reads);
        Sums {
            bios: less(self.bios, before.bios),
            bytes: less(self.bytes, before.bytes),
            timed: less(self.timed, before.timed),
            waited_ns: less(self.waited_ns, before.waited_ns),
            reads: pairs.map(|(now, then)| now.saturating_sub(*then)).collect(),
        }
    }

    /// Mean wait of reads (0) or writes (1), seconds; 0 where there were none.
    pub(super) fn mean(&self, way: usize) -> f64 {
        self.waited_ns[way] as f64 / 1e9 / self.timed[way].max(1) as f64
    }

    /// How many were under way at a time, of so many seconds: what comes each second by how long it stays (Little).
    pub(super) fn depth(&self, way: usize, seconds: f64) -> f64 {
        self.bios[way] as f64 / seconds.max(1e-3) * self.mean(way)
    }

    /// The time that this share of reads was no longer than, seconds, to a fifth; 0 where there were none.
    pub(super) fn read_quantile(&self, share: f64) -> f64 {
        let all: u64 = self.reads.iter().sum();
        let wanted = (all as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (step, count) in self.reads.iter().enumerate() {
            seen += count;
            if seen >= wanted && all > 0 {
                return end_of(step);
            }
        }
        0.0
    }

    /// Reads of which it is known that they took longer than so many seconds.
    pub(super) fn reads_longer(&self, seconds: f64) -> u64 {
        let longer = (0..STEPS).filter(|step| *step > 0 && end_of(step - 1) >= seconds);
        longer.map(|step| self.reads[step]).sum()
    }
}

/// Where a step of the histogram ends, seconds.
fn end_of(step: usize) -> f64 {
    let (power, quarter) = (FIRST_BIT + step as u32 / 4, step as u32 % 4);
    f64::from(5 + quarter) / 4.0 * 2f64.powi(power as i32) / 1e9
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(sums: &Sums) -> Vec<u8> {
        let rows = [sums.bios, sums.bytes, sums.timed, sums.waited_ns];
        let mut bytes: Vec<u8> = rows
            .iter()
            .flatten()
            .flat_map(|n| n.to_ne_bytes())
            .collect();
        bytes.extend(sums.reads.iter().flat_map(|n| (*n as u32).to_ne_bytes()));
        bytes
    }

    proptest! {
        #[test]
        fn reads_any_bytes_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            if let Some(sums) = Sums::of(&[bytes]) {
                let _ = (sums.mean(0), sums.depth(1, 0.0), sums.read_quantile(0.99), sums.since(&Sums::default()));
            }
        }
    }

    #[test]
    fn processors_add_up_and_looks_differ() {
        let mut sums = Sums::default();
        (sums.bios, sums.timed, sums.waited_ns) = ([10, 20], [10, 5], [30_000_000, 50_000_000]);
        sums.reads[40] = 10;
        let two = Sums::of(&[bytes(&sums), bytes(&sums)]).unwrap();
        assert_eq!((two.bios, two.reads[40]), ([20, 40], 20));
        assert_eq!(two.since(&sums), sums);
        assert!((sums.mean(0) - 0.003).abs() < 1e-9);
        assert!(
            (sums.depth(1, 2.0) - 0.1).abs() < 1e-9,
            "10 a second for 10 ms"
        );
        assert_eq!(Sums::default().mean(0), 0.0);
    }

    #[test]
    fn quantiles_are_by_time() {
        let mut sums = Sums::default();
        assert_eq!(sums.read_quantile(0.99), 0.0);
        // 97 of 1 to 1.25 microseconds, 3 of 1 to 1.25 times 2^23 ns.
        (sums.reads[0], sums.reads[52]) = (97, 3);
        assert!((sums.read_quantile(0.5) - 1.28e-6).abs() < 1e-8);
        assert!((sums.read_quantile(0.99) - 0.01048).abs() < 1e-4);
        assert_eq!((sums.reads_longer(0.008), sums.reads_longer(0.011)), (3, 0));
    }

    #[test]
    fn mirrors_the_program() {
        let program = include_str!("blk_queue.bpf.c");
        for line in [
            format!("#define STEPS {STEPS}"),
            format!("#define FIRST_BIT {FIRST_BIT}"),
        ] {
            assert!(program.contains(&line), "{line}");
        }
        let body = program.split_once("struct sums {").unwrap().1;
        let fields: Vec<&str> = body
            .lines()
            .map(str::trim)
            .take_while(|line| *line != "};")
            .filter_map(|line| line.strip_suffix(';'))
            .collect();
        let ours = [
            "__u64 bios[WAYS]",
            "__u64 bytes[WAYS]",
            "__u64 timed[WAYS]",
            "__u64 waited_ns[WAYS]",
            "__u32 reads[STEPS]",
        ];
        assert_eq!(fields[..5], ours);
    }
}
