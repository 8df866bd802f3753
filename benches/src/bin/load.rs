//! A load by itself, so that a scenario can start it in a place of its own: see `lab::system`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match lab::system::run_load(&args) {
        Some(figure) => {
            println!("{figure}");
            ExitCode::SUCCESS
        }
        None => {
            eprintln!(
                "load: threads COUNT | bomb MILLISECONDS | jobs COUNT | job MILLISECONDS | frames MILLISECONDS TASKS MICROSECONDS"
            );
            ExitCode::from(2)
        }
    }
}
