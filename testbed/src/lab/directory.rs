//! Where a lab keeps its files.

use std::fs;
use std::path::{Path, PathBuf};

use super::{LARGE_FILE, reap};
use crate::error::{Context as _, Result};

/// A lab's directory, removed with it.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    leave: bool,
}

impl Directory {
    /// Makes the directory of the lab with this prefix, with the large file in it.
    pub(super) fn create(prefix: &str, leave: bool) -> Result<Self> {
        let path = reap::directory(prefix);
        fs::create_dir_all(&path).context(|| format!("cannot create {}", path.display()))?;
        let directory = Directory { path, leave };
        let large = directory.large_file();
        fs::write(&large, large_file_content()).context(|| format!("cannot write {}", large.display()))?;
        Ok(directory)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The original of the file that real servers hand out as `/large`.
    pub(super) fn large_file(&self) -> PathBuf {
        self.path.join("large")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !self.leave {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Bytes without a pattern that a wrong offset or a lost block could repeat, the same in every run.
fn large_file_content() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = move || {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    std::iter::repeat_with(next).take(LARGE_FILE / 8).flat_map(u64::to_le_bytes).collect()
}
