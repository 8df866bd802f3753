//! A thousand outputs captured at a time, under a limit of time and of size, without a runtime.
//!
//! cargo run -p uring-process --example captures

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    process::Output,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use uring_process::Command;

fn main() -> io::Result<()> {
    let begin = Instant::now();
    let mut captures: Vec<Pin<Box<_>>> = (0..1000)
        .map(|n| {
            let mut command = Command::new("sh");
            // One in a hundred would take too long.
            let script = if n % 100 == 0 {
                "exec sleep 60"
            } else {
                "echo $N"
            };
            command.args(["-c", script]).env("N", n.to_string());
            let capture = command
                .output_async()
                .timeout(Duration::from_secs(5))
                .limit(1 << 16);
            Box::pin(async move { (n, capture.await) })
        })
        .collect();
    let (mut right, mut late) = (0, 0);
    // All are polled whenever one has news; an executor would poll that one only.
    block_on(std::future::poll_fn(|cx| {
        captures.retain_mut(|capture| match capture.as_mut().poll(cx) {
            Poll::Pending => true,
            Poll::Ready((n, result)) => {
                match check(n, result) {
                    Ok(true) => right += 1,
                    Ok(false) => late += 1,
                    Err(error) => eprintln!("{n}: {error}"),
                }
                false
            }
        });
        if captures.is_empty() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }));
    println!(
        "{right} right, {late} too late, in {:.1} s",
        begin.elapsed().as_secs_f64()
    );
    if right + late == 1000 {
        Ok(())
    } else {
        Err(io::Error::other("some failed"))
    }
}

/// Whether it came in time.
fn check(n: i32, result: io::Result<Output>) -> io::Result<bool> {
    match result {
        Ok(output) if output.stdout == format!("{n}\n").into_bytes() => Ok(true),
        Ok(output) => Err(io::Error::other(format!("{output:?}"))),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(false),
        Err(error) => Err(error),
    }
}

/// The smallest executor: this thread.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::park();
    }
}
