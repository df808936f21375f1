//! EAL starts once in a process, so each test that needs it runs itself again in a process of its own.

// Every test program uses its own part of this.
#![allow(dead_code)]

use std::path::Path;
use std::process::{Command, Output};

use director::dpdk::{EalOptions, Hugepages};

/// Says to a process which test it is to run.
const CHILD: &str = "DPDK_TEST_CHILD";

/// Runs `test` in a process of its own, with a directory for its files, and looks whether it left something
/// in DPDK's runtime directory.
pub(crate) fn own_process(name: &str, test: impl FnOnce(&Path)) {
    if std::env::var(CHILD).is_ok_and(|child| child == name) {
        test(Path::new(&std::env::var("RUNTIME_DIRECTORY").expect("set by the parent")));
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let output = run_again(name, directory.path());
    let printed =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {printed}", output.status);
    // One that ran no test succeeds too.
    assert!(printed.contains("1 passed"), "{printed}");
    let left: Vec<_> =
        std::fs::read_dir(directory.path().join("dpdk")).into_iter().flatten().flatten().collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

/// Runs a test in a process of its own, with this runtime directory.
pub(crate) fn run_again(name: &str, directory: &Path) -> Output {
    let this = std::env::current_exe().expect("the test has a path");
    Command::new(this)
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(CHILD, name)
        .env("RUNTIME_DIRECTORY", directory)
        .output()
        .expect("the test can be run")
}

/// EAL with so many worker lcores, all on one CPU.
pub(crate) fn options(workers: usize) -> EalOptions {
    EalOptions {
        hugepages: Hugepages::No,
        memory_mb: 64,
        worker_cpus: vec![allowed_cpus()[0]; workers],
        ..Default::default()
    }
}

/// The CPUs that this process may run on.
pub(crate) fn allowed_cpus() -> Vec<u32> {
    let set = rustix::thread::sched_getaffinity(None).expect("affinity");
    (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).map(|cpu| cpu as u32).collect()
}
