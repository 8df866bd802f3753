//! A bit of everything, all of it well: no tuner has anything to do.

use std::{
    fs,
    io::{Read, Write},
    time::Duration,
};

use super::{
    disk::{self, Data, read_pages},
    proc_limits::{Context, Tree},
};
use crate::{
    Error, Result,
    network::{Kind, Scenario, Stage, rounds_per_second},
};

/// Every tuner of the build beside files, memory, threads, pipes, watches and a disk that is read now and then.
pub(super) struct NothingWrong;

impl Scenario for NothingWrong {
    fn tuner(&self) -> &'static str {
        "all"
    }
    fn tuners(&self) -> Vec<&'static str> {
        Vec::new()
    }
    fn kind(&self) -> Kind {
        Kind::NothingWrong
    }
    fn name(&self) -> &'static str {
        "mixed load, nothing wrong"
    }
    fn metric(&self) -> (&'static str, &'static str) {
        ("rounds of a mixed load", "/s")
    }
    fn runs(&self) -> u32 {
        40
    }
    fn host_wide(&self) -> bool {
        true
    }
    fn missing(&self) -> Option<&'static str> {
        disk::missing()
    }
    fn stage(&self) -> Result<Box<dyn Stage>> {
        Ok(Box::new(Mixed {
            tree: Tree::new(200)?,
            data: Data::new(256)?,
        }))
    }
}

struct Mixed {
    tree: Tree,
    data: Data,
}

impl Mixed {
    fn round(&self) -> Result<()> {
        let file = self.tree.root.path().join("file");
        for _ in 0..50 {
            fs::write(&file, [0; 512]).map_err(Error::doing("cannot write a file"))?;
            fs::read(&file).map_err(Error::doing("cannot read a file"))?;
        }
        self.tree.watch()?;
        let _context = Context::new(128);
        let touched: Vec<u8> = vec![1; 8 << 20];
        let sum: u64 = touched.iter().map(|byte| u64::from(*byte)).sum();
        std::hint::black_box(sum);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(ping);
            }
        });
        Ok(())
    }
}

/// Two ends of a pipe that wake each other.
fn ping() {
    let (Ok((mut a_in, mut a_out)), Ok((mut b_in, mut b_out))) = (std::io::pipe(), std::io::pipe())
    else {
        return;
    };
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut byte = [0];
            while a_in.read_exact(&mut byte).is_ok() && b_out.write_all(&byte).is_ok() {}
        });
        let mut byte = [0];
        for _ in 0..20 {
            if a_out.write_all(&byte).is_err() || b_in.read_exact(&mut byte).is_err() {
                break;
            }
        }
        drop(a_out);
    });
}

impl Stage for Mixed {
    fn turn(&mut self) -> Result<f64> {
        let rate = rounds_per_second(|| self.round())?;
        // Some reads of a disk, outside of the figure: how fast it is varies by more than two in a hundred.
        read_pages(&self.data, Duration::from_millis(100))?;
        Ok(rate)
    }
}
