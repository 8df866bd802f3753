//! Paths that lose packets, and a default congestion control that takes each loss for congestion.

use std::{net::IpAddr, time::Duration};

use super::{Mended, Scenario, Stage, Values};
use crate::{
    Result,
    link::{Link, Shape},
    netns::Netns,
    traffic::Transfer,
};

/// One connection after the other over 100 Mbit/s and 20 ms, with the default at reno.
pub(super) struct Lossy {
    /// Per hundred.
    percent: u32,
}

/// Without loss nothing may change; with it, reno starves.
pub(super) const ALL: [Lossy; 4] = [
    Lossy { percent: 0 },
    Lossy { percent: 1 },
    Lossy { percent: 3 },
    Lossy { percent: 10 },
];

impl Scenario for Lossy {
    fn tuner(&self) -> &'static str {
        "tcp-conn"
    }

    fn name(&self) -> &'static str {
        match self.percent {
            0 => "no loss",
            1 => "1 % loss",
            3 => "3 % loss",
            _ => "10 % loss",
        }
    }

    fn metric(&self) -> (&'static str, &'static str) {
        ("goodput of a connection", "Mbit/s")
    }

    /// The best of those that this kernel has, for a path with loss.
    fn by_hand(&self) -> Values {
        if self.percent == 0 {
            &[]
        } else {
            &[("net.ipv4.tcp_congestion_control", "bbr")]
        }
    }

    fn stage(&self) -> Result<Box<dyn Stage>> {
        let loss = f64::from(self.percent) / 100.0;
        let shape = Shape::new(Duration::from_millis(10)).rate(100_000_000);
        // Data is lost, ACKs are not: they would only slow down what is measured alike.
        let link = Link::asymmetric(shape.clone().loss(loss), shape)?;
        link.a
            .set_sysctl("net.ipv4.tcp_congestion_control", "reno")?;
        Ok(Box::new(LossyStage { link }))
    }

    /// Judged by the last twenty.
    fn turns(&self) -> usize {
        40
    }

    fn is_fault(&self) -> bool {
        self.percent > 0
    }

    /// At 10 % every third connection by hand is worse than nine tenths of their median.
    fn mended(&self) -> Mended {
        Mended::InARow(if self.percent < 10 { 2 } else { 5 })
    }
}

struct LossyStage {
    link: Link,
}

impl Stage for LossyStage {
    fn places(&self) -> Vec<&Netns> {
        vec![&self.link.a]
    }

    fn turn(&mut self) -> Result<f64> {
        let to = IpAddr::from(self.link.addr_b());
        let transfer = Transfer::start(&self.link.a, &self.link.b, to)?;
        let rate = transfer.measure(Duration::from_millis(500));
        transfer.stop()?;
        Ok(rate)
    }
}
