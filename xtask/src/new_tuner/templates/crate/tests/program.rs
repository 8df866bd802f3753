//! The program itself.

use std::process::Command;

#[test]
fn says_what_it_can() {
    let program = Command::new(env!("CARGO_BIN_EXE_my-tuner"))
        .arg("--help")
        .output()
        .expect("it starts");
    let text = String::from_utf8_lossy(&program.stdout);
    assert!(program.status.success(), "{text}");
    assert!(
        text.contains("--mode") && text.contains("--netns"),
        "{text}"
    );
}
