//! How much the emulated link carries: `cargo run --release -p lab --example link_speed [-- --json]`.

use std::time::Duration;

use lab::{
    link::{Link, Shape},
    traffic::Transfer,
};

fn main() -> lab::Result<()> {
    let mut rates = Vec::new();
    for _ in 0..3 {
        let link = Link::new(Shape::new(Duration::from_millis(10)))?;
        for netns in [&link.a, &link.b] {
            netns.set_sysctl("net.ipv4.tcp_rmem", "4096 131072 67108864")?;
            netns.set_sysctl("net.ipv4.tcp_wmem", "4096 16384 67108864")?;
        }
        let transfer = Transfer::start(&link.a, &link.b, link.addr_b().into())?;
        std::thread::sleep(Duration::from_secs(1));
        rates.push(transfer.measure(Duration::from_secs(4)) / 1000.0);
        transfer.stop()?;
    }
    rates.sort_by(f64::total_cmp);
    if std::env::args().any(|arg| arg == "--json") {
        println!(
            "{}",
            serde_json::json!({ "gbit_per_s": rates[1], "runs": rates, "rtt_ms": 20 })
        );
    } else {
        println!("{:.1} Gbit/s at 20 ms (median of {rates:.1?})", rates[1]);
    }
    Ok(())
}
