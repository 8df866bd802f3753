//! Compiles the admin watch's BPF program and tells dependents where the headers are.
use std::{env, path::PathBuf};

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let include = root.join("bpf");
    let source = root.join("src/admin/admin.bpf.c");

    println!("cargo::metadata=include={}", include.display());
    println!("cargo::rerun-if-changed={}", include.display());
    println!("cargo::rerun-if-changed={}", source.display());
    if let Err(error) = libbpf_cargo::SkeletonBuilder::new()
        .source(&source)
        .obj(out.join("admin.bpf.o"))
        .clang_args(["-I".into(), include.into_os_string()])
        .build()
    {
        println!(
            "cargo::error=compiling {} failed (is clang installed? `cargo xtask setup` installs it): {error:?}",
            source.display()
        );
    }
}
