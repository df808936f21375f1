//! Reading what the kernel says, below a directory that stands for `/`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// More of a file is not read: the longest that is (`/proc/cpuinfo` of 512 CPUs) is shorter.
const MOST: u64 = 4 << 20;
/// A greater CPU number is nonsense, and would make lists without end.
const MOST_CPUS: u32 = 65_536;

/// And so would more ranges than this.
const MOST_RANGES: usize = 1024;

/// Where `/` is.
pub(super) struct Root<'a>(pub(super) &'a Path);

impl Root<'_> {
    fn path(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    /// What is in a file, whatever that is.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        let path = self.path(path);
        // Opening a pipe would wait for a writer.
        if !std::fs::metadata(&path).ok()?.is_file() {
            return None;
        }
        let mut bytes = Vec::new();
        File::open(path).ok()?.take(MOST).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What is in a file of a word.
    pub(super) fn word(&self, path: &str) -> Option<String> {
        let text = self.text(path)?;
        let word = text.trim();
        (!word.is_empty() && word.len() < 256).then(|| word.to_owned())
    }

    pub(super) fn number<T: std::str::FromStr>(&self, path: &str) -> Option<T> {
        self.word(path)?.parse().ok()
    }

    /// CPUs, as the kernel lists them.
    pub(super) fn cpus(&self, path: &str) -> BTreeSet<u32> {
        self.text(path).map(|list| parse_cpus(&list)).unwrap_or_default()
    }

    /// The names in a directory, in order.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(path)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// The last part of where a link leads.
    pub(super) fn link(&self, path: &str) -> Option<String> {
        let target = std::fs::read_link(self.path(path)).ok()?;
        target.file_name()?.to_str().map(str::to_owned)
    }

    pub(super) fn exists(&self, path: &str) -> bool {
        std::fs::symlink_metadata(self.path(path)).is_ok()
    }
}

/// `0-3,7`, as the kernel writes it; what is no number is left out.
pub(super) fn parse_cpus(list: &str) -> BTreeSet<u32> {
    let mut cpus = BTreeSet::new();
    for part in list.trim().split(',').take(MOST_RANGES) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.trim().parse::<u32>(), last.trim().parse::<u32>()) {
            cpus.extend(first.min(MOST_CPUS)..=last.min(MOST_CPUS));
        }
    }
    cpus
}
