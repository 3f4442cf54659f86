//! Compiles the guest agent into the bytes that the library embeds.

use std::path::PathBuf;
use std::process::Command;

const SOURCES: [&str; 16] = [
    "agent",
    "capture",
    "channel",
    "command",
    "confine",
    "init",
    "jobs",
    "landlock",
    "metadata",
    "namespace",
    "seccomp",
    "setup",
    "sys",
    "tar",
    "tree",
    "wire",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for name in SOURCES {
        println!("cargo::rerun-if-changed=guest_{name}.rs");
    }
    let variable = |name: &str| std::env::var_os(name).expect("cargo sets it for build scripts");
    let output = PathBuf::from(variable("OUT_DIR")).join("guest_agent");
    let mut rustc = Command::new(variable("RUSTC"));
    rustc.args(["--edition", "2024", "--crate-type", "bin", "--target"]).arg(variable("TARGET"));
    // Static: it runs in any image, whatever C library that has, or none.
    for option in ["target-feature=+crt-static", "opt-level=s", "panic=abort", "strip=symbols"] {
        rustc.args(["-C", option]);
    }
    let status = rustc.arg("-o").arg(&output).arg("guest_agent.rs").status();
    let status = status.expect("rustc starts, as it does for this build script");
    assert!(status.success(), "the guest agent does not compile (it needs a static C library)");
}
