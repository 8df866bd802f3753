//! The link does what it claims. Tolerances allow for a busy machine.

use std::{
    net::UdpSocket,
    time::{Duration, Instant},
};

use lab::{
    link::{Link, Shape},
    scenario::{LARGE, set_buffers},
    traffic::{Transfer, TransferOptions},
};

macro_rules! need_root {
    () => {
        if let Some(why) = lab::unprivileged() {
            eprintln!("SKIP: {why}");
            return;
        }
    };
}

/// Round trip times of `count` datagrams over the link, sorted.
fn round_trips(link: &Link, count: usize) -> Vec<Duration> {
    let server = link.b.run(|| UdpSocket::bind((link.addr_b(), 0)).unwrap());
    let address = server.local_addr().unwrap();
    let echo = link.b.spawn(move || {
        let mut bytes = [0; 64];
        while let Ok((len, from)) = server.recv_from(&mut bytes) {
            if len == 1 {
                return;
            }
            let _ = server.send_to(&bytes[..len], from);
        }
    });
    let mut times = link.a.run(|| {
        let socket = UdpSocket::bind((link.addr_a(), 0)).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(2)))
            .unwrap();
        let mut bytes = [0; 64];
        let times: Vec<_> = (0..count)
            .map(|_| {
                let start = Instant::now();
                socket.send_to(&bytes, address).unwrap();
                socket.recv_from(&mut bytes).unwrap();
                start.elapsed()
            })
            .collect();
        socket.send_to(&[0], address).unwrap();
        times
    });
    echo.join().unwrap();
    times.sort();
    times
}

#[test]
fn delays_by_what_it_claims() {
    need_root!();
    for ms in [0, 1, 5, 25] {
        let delay = Duration::from_millis(ms);
        let link = Link::new(Shape::new(delay)).unwrap();
        let times = round_trips(&link, 31);
        assert!(
            times[0] >= delay * 2,
            "never early: {:?} for {delay:?}",
            times[0]
        );
        let median = times[15];
        assert!(
            median <= delay * 2 + Duration::from_millis(2),
            "{median:?} for {delay:?} each way"
        );
    }
}

#[test]
fn loses_what_it_claims() {
    need_root!();
    for loss in [0.0, 0.01, 0.05] {
        let link = Link::asymmetric(
            Shape::new(Duration::ZERO).loss(loss),
            Shape::new(Duration::ZERO),
        )
        .unwrap();
        let count = 20_000u32;
        let server = link.b.run(|| UdpSocket::bind((link.addr_b(), 0)).unwrap());
        server
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        let address = server.local_addr().unwrap();
        let receiver = link.b.spawn(move || {
            let mut bytes = [0; 64];
            std::iter::from_fn(|| server.recv_from(&mut bytes).ok()).count()
        });
        link.a.run(|| {
            let socket = UdpSocket::bind((link.addr_a(), 0)).unwrap();
            for i in 0..count {
                socket.send_to(&[0; 32], address).unwrap();
                if i % 50 == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        let received = receiver.join().unwrap();
        let lost = f64::from(count) - received as f64;
        let expected = f64::from(count) * loss;
        // Five standard deviations of a binomial.
        let bound = 5.0 * (expected * (1.0 - loss)).sqrt();
        assert!(
            (lost - expected).abs() <= bound,
            "lost {lost}, expected {expected} +- {bound}"
        );
        assert_eq!(link.stats()[0].lost as f64, lost);
    }
}

#[test]
fn tcp_survives_loss_in_super_packets_byte_for_byte() {
    need_root!();
    let shape = Shape::new(Duration::from_millis(1)).loss(0.01);
    let link = Link::new(shape).unwrap();
    let [a6, b6] = link.addrs_v6();
    let ways: [(_, _, std::net::IpAddr); 4] = [
        (&link.a, &link.b, link.addr_b().into()),
        (&link.b, &link.a, link.addr_a().into()),
        (&link.a, &link.b, b6.into()),
        (&link.b, &link.a, a6.into()),
    ];
    for (from, to, address) in ways {
        let before = link.stats();
        let options = TransferOptions {
            check_all: true,
            ..TransferOptions::default()
        };
        let transfer = Transfer::start_with(from, to, address, options).unwrap();
        std::thread::sleep(Duration::from_secs(1));
        // Fails where a byte is wrong.
        let report = transfer.stop().unwrap();
        assert!(
            report.bytes > 1_000_000,
            "{address}: {} bytes",
            report.bytes
        );
        let after = link.stats();
        let sum = |stats: [lab::link::DirectionStats; 2],
                   pick: fn(&lab::link::DirectionStats) -> u64|
         -> f64 { stats.iter().map(pick).sum::<u64>() as f64 };
        let packets = sum(after, |s| s.packets) - sum(before, |s| s.packets);
        let lost = sum(after, |s| s.lost) - sum(before, |s| s.lost);
        let bound = 5.0 * (packets * 0.01 * 0.99).sqrt();
        assert!(
            (lost - packets * 0.01).abs() <= bound,
            "{lost} of {packets} lost"
        );
    }
}

#[test]
fn carries_the_rate_that_it_claims() {
    need_root!();
    for mbit in [50.0, 1000.0] {
        let link =
            Link::new(Shape::new(Duration::from_millis(2)).rate((mbit * 1e6) as u64)).unwrap();
        set_buffers(&link, LARGE).unwrap();
        let transfer = Transfer::start(&link.a, &link.b, link.addr_b().into()).unwrap();
        std::thread::sleep(Duration::from_secs(1));
        let before = link.stats()[0];
        let goodput = transfer.measure(Duration::from_secs(2));
        let after = link.stats()[0];
        transfer.stop().unwrap();
        // 52 bytes of headers in each 1500; what is dropped at the queue was not carried.
        let most = mbit * 1448.0 / 1500.0;
        assert!(goodput <= most * 1.03, "{goodput} of {most} Mbit/s");
        assert!(goodput >= most * 0.85, "{goodput} of {most} Mbit/s");
        assert!(after.packets > before.packets);
    }
}

#[test]
fn leaves_nothing_behind() {
    need_root!();
    let count = |dir: &str| std::fs::read_dir(dir).unwrap().count();
    drop(Link::new(Shape::new(Duration::ZERO)).unwrap());
    let (fds, threads) = (count("/proc/self/fd"), count("/proc/self/task"));
    for _ in 0..5 {
        let link = Link::new(Shape::new(Duration::from_millis(1))).unwrap();
        drop(Transfer::start(&link.a, &link.b, link.addr_b().into()).unwrap());
    }
    assert_eq!(
        (count("/proc/self/fd"), count("/proc/self/task")),
        (fds, threads)
    );
}
