//! Hugepages for the time of a run.

use std::fs;
use std::path::Path;

use crate::error::{Context as _, Result};

const RESERVED: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
const FREE: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";

/// Hugepages that were reserved for a run; given back when dropped.
#[derive(Debug)]
pub struct Hugepages {
    before: u64,
    added: u64,
}

impl Hugepages {
    /// Sees to it that as many megabytes are free in hugepages of 2 MB.
    ///
    /// # Errors
    /// When the kernel has not that much memory in one piece, or may not be asked.
    pub fn reserve(megabytes: u64) -> Result<Hugepages> {
        let wanted = megabytes.div_ceil(2);
        let (before, free) = (number(RESERVED)?, number(FREE)?);
        let mut held = Hugepages { before, added: 0 };
        let lacking = wanted.saturating_sub(free);
        if lacking > 0 {
            write(before + lacking)?;
            held.added = number(RESERVED)?.saturating_sub(before);
        }
        let free = number(FREE)?;
        crate::ensure!(
            free >= wanted,
            "{megabytes} MB of hugepages are needed and {} MB can be had: free some memory, or run with --no-huge",
            free * 2
        );
        Ok(held)
    }

    /// How many there are in all now.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn total() -> Result<u64> {
        number(RESERVED)
    }
}

impl Drop for Hugepages {
    fn drop(&mut self) {
        if self.added > 0
            && let Err(error) = write(self.before)
        {
            eprintln!("hugepages are not given back: {error}");
        }
    }
}

fn number(path: &str) -> Result<u64> {
    let text = fs::read_to_string(path).context(|| format!("cannot read {path}"))?;
    text.trim().parse().context(|| format!("{path} holds no number"))
}

fn write(pages: u64) -> Result<()> {
    fs::write(Path::new(RESERVED), pages.to_string()).context(|| format!("cannot write {RESERVED}"))
}
