//! Disks of a test's own. The test starts itself again in a mount namespace, where it may mount what it likes; nothing is
//! left of that when the process has ended, however it ended.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Set in the process that is in a namespace: the directory that it may use.
const INSIDE: &str = "LEVERET_DISK_INSIDE";

/// Set where a test must not be skipped.
const REQUIRE: &str = "LEVERET_REQUIRE_MOUNT";

/// Ways to get a namespace: as root, or as root of a user namespace.
const WAYS: [&str; 2] = ["-m", "-rm"];

/// Whether this is root, or what a user namespace calls so.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// A test cannot be carried out here.
pub fn skip(why: &str) {
    assert!(std::env::var_os(REQUIRE).is_none(), "{REQUIRE} is set, but {why}");
    eprintln!("skipped: {why}");
}

/// Runs `body` with a directory in a mount namespace of its own. `test` is the name of the test that this is.
pub fn with_mounts(test: &str, body: impl FnOnce(&Path)) {
    if let Some(directory) = std::env::var_os(INSIDE) {
        return body(&PathBuf::from(directory));
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mounts = |way: &&&str| {
        let mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs"];
        Command::new("unshare")
            .arg(way)
            .args(mount)
            .arg(directory.path())
            .output()
            .is_ok_and(|output| output.status.success())
    };
    let Some(way) = WAYS.iter().find(mounts) else {
        return skip("a tmpfs can be mounted neither as root nor in a user namespace");
    };
    let output = Command::new("unshare")
        .arg(way)
        .arg(std::env::current_exe().expect("a test has a binary"))
        .args(["--exact", test, "--nocapture", "--include-ignored"])
        .env(INSIDE, directory.path())
        .output()
        .expect("the test can be started again");
    let output_text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{test} in a namespace: {}\n{output_text}", output.status);
    assert!(output_text.contains("1 passed"), "{test} was not found in a namespace:\n{output_text}");
    eprintln!("{output_text}");
}

/// Mounts a disk with so many MiB on a new directory.
pub fn mount(at: &Path, mebibytes: u32) {
    std::fs::create_dir(at).expect("a directory can be made");
    let options = format!("size={mebibytes}m");
    run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at));
}

/// Changes how a disk is mounted.
pub fn remount(at: &Path, options: &str) {
    run(Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(at));
}

fn run(command: &mut Command) {
    let output = command.output().expect("it can be run");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
