//! The machine that was measured on.

use std::fs;

use serde::Serialize;

use crate::error::{Context as _, Result};

/// What figures depend on.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Model of the CPU.
    pub cpu: String,
    /// How many CPUs there are.
    pub cores: usize,
    /// DPDK's version.
    pub dpdk: String,
    /// The kernel's version.
    pub kernel: String,
    /// Hugepages of 2 MB that were reserved; 0 for a run in ordinary memory.
    pub hugepages: u64,
    /// Whether the kernel lets a program count instructions; a virtual machine often does not.
    pub counts_instructions: bool,
}

impl Machine {
    /// This one.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn read(dpdk: String, hugepages: u64) -> Result<Machine> {
        let read = |path: &str| fs::read_to_string(path).context(|| format!("cannot read {path}"));
        let info = read("/proc/cpuinfo")?;
        let value = |key: &str| {
            let line = info.lines().find(|line| line.starts_with(key));
            line.and_then(|line| line.split_once(": ")).map_or("unknown", |(_, value)| value).to_owned()
        };
        Ok(Machine {
            cpu: format!(
                "{} (family {}, model {})",
                value("model name"),
                value("cpu family"),
                value("model\t")
            ),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            dpdk,
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            hugepages,
            counts_instructions: super::instructions::Counter::open(0).is_ok(),
        })
    }
}
