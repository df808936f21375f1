//! Configurations that ran, to go back to: the last few, in files of a directory. What cannot be written is kept in
//! memory, so that a full disk keeps nobody from going back.
//!
//! A file is the text as it was applied, behind a comment that says what became of it; `director run` can start from it.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// So many versions are kept.
pub const VERSIONS: usize = 20;
/// What a file begins with.
const HEAD: &str = "# director ";

/// A configuration that ran, or runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Its number; they go up.
    pub version: u64,
    /// When it was applied, in milliseconds since 1970 (UTC).
    pub time_ms: u64,
    /// Who applied it.
    pub who: String,
    /// Where its text came from.
    pub source: String,
    /// What it changed.
    pub summary: String,
    /// The version that ran before it; null: none is known.
    pub after: Option<u64>,
    /// Whether it was to stay: false of one that has to be confirmed, or was not.
    pub confirmed: bool,
}

/// What is to become a version.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Who applies it.
    pub who: String,
    /// Where its text comes from.
    pub source: String,
    /// What it changes.
    pub summary: String,
    /// Whether it is to stay without being confirmed.
    pub confirmed: bool,
}

#[derive(Clone, Debug)]
struct Kept {
    about: Version,
    /// Of one that is not in its file, or not yet.
    text: Option<Arc<str>>,
}

/// The versions of one director.
#[derive(Clone, Debug, Default)]
pub struct History {
    directory: PathBuf,
    /// By number.
    versions: Vec<Kept>,
    current: Option<u64>,
}

impl History {
    /// What is in a directory, which need not be there. Files that are none of ours are left alone.
    pub fn open(directory: &Path) -> History {
        let mut versions = Vec::new();
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            match read_head(&entry.path()) {
                Ok(Some(about)) => versions.push(Kept { about, text: None }),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(file = %entry.path().display(), %error, "cannot read a version of the configuration");
                }
            }
        }
        versions.sort_by_key(|kept| kept.about.version);
        History { directory: directory.to_owned(), versions, current: None }
    }

    /// A director has started from this text. It is written once there is another one, so that a director that nobody
    /// changes leaves nothing behind.
    pub fn start(&mut self, text: &str, entry: Entry) {
        let newest = self.versions.last().map(|kept| kept.about.version);
        // Who is started again goes on where it was.
        if let Some(newest) = newest
            && self.text(newest).is_ok_and(|last| *last == *text)
        {
            self.current = Some(newest);
            self.confirm(newest);
            return;
        }
        self.push(text, entry);
    }

    /// Another text runs from now on. Returns its number.
    pub fn add(&mut self, text: &str, entry: Entry) -> u64 {
        let version = self.push(text, entry);
        // Those that could not be written are tried again: the disk may have room now.
        let mut failure = None;
        for at in 0..self.versions.len() {
            let Kept { about, text: Some(text) } = &self.versions[at] else { continue };
            match self.write(about, text) {
                Ok(()) => self.versions[at].text = None,
                Err(error) => failure = Some(error),
            }
        }
        if let Some(error) = failure {
            let directory = self.directory.display();
            tracing::warn!(%directory, %error, "the configuration is applied, but is kept in memory only");
        }
        while self.versions.len() > VERSIONS {
            let oldest = self.versions.remove(0);
            let removed = std::fs::remove_file(self.file(oldest.about.version));
            if let Err(error) = removed.or_else(|e| if is_missing(&e) { Ok(()) } else { Err(e) }) {
                tracing::warn!(version = oldest.about.version, %error, "cannot remove an old configuration");
            }
        }
        version
    }

    /// A version is to stay.
    pub fn confirm(&mut self, version: u64) {
        let Some(at) = self.position(version).filter(|at| !self.versions[*at].about.confirmed) else {
            return;
        };
        self.versions[at].about.confirmed = true;
        if self.versions[at].text.is_some() {
            return;
        }
        let rewritten = self.text(version).and_then(|text| self.write(&self.versions[at].about, &text));
        if let Err(error) = rewritten {
            tracing::warn!(version, %error, "cannot note that a configuration is confirmed");
        }
    }

    /// An older version runs again.
    pub fn go_back(&mut self, version: Option<u64>) {
        self.current = version;
    }

    /// The version that runs, but for changes by hand.
    pub fn current(&self) -> Option<u64> {
        self.current
    }

    /// The version that ran before the one that runs.
    pub fn before(&self) -> Option<u64> {
        self.versions[self.position(self.current?)?].about.after
    }

    /// Every version that is kept, the oldest first.
    pub fn versions(&self) -> impl Iterator<Item = &Version> {
        self.versions.iter().map(|kept| &kept.about)
    }

    /// The text of a version.
    ///
    /// # Errors
    /// There is no such version, or it cannot be read.
    pub fn text(&self, version: u64) -> io::Result<Arc<str>> {
        let at = self.position(version).ok_or(io::ErrorKind::NotFound)?;
        if let Some(text) = &self.versions[at].text {
            return Ok(text.clone());
        }
        let text = std::fs::read_to_string(self.file(version))?;
        let (_, text) = text.split_once('\n').ok_or(io::ErrorKind::InvalidData)?;
        Ok(text.into())
    }

    /// Where a version is, or is to be.
    pub fn file(&self, version: u64) -> PathBuf {
        self.directory.join(format!("{version:06}.toml"))
    }

    fn position(&self, version: u64) -> Option<usize> {
        self.versions.iter().position(|kept| kept.about.version == version)
    }

    fn push(&mut self, text: &str, entry: Entry) -> u64 {
        let Entry { who, source, summary, confirmed } = entry;
        let newest = self.versions.last().map(|kept| kept.about.version);
        let after = self.current.or(newest);
        let version = newest.map_or(1, |newest| newest + 1);
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time_ms = u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX);
        let about = Version { version, time_ms, who, source, summary, after, confirmed };
        self.versions.push(Kept { about, text: Some(text.into()) });
        self.current = Some(version);
        version
    }

    /// Whoever reads the file meanwhile has the old one or the new one, whole.
    fn write(&self, about: &Version, text: &str) -> io::Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(0o750).create(&self.directory)?;
        let file = self.file(about.version);
        let new = file.with_extension("new");
        let head = serde_json::to_string(about).map_err(io::Error::other)?;
        let mut options = std::fs::OpenOptions::new();
        let mut out = options.write(true).create(true).truncate(true).mode(0o640).open(&new)?;
        out.write_all(format!("{HEAD}{head}\n{text}").as_bytes())?;
        out.sync_all()?;
        std::fs::rename(new, file)
    }
}

fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// What is said of a version in its file; none if the file is none of ours.
fn read_head(path: &Path) -> io::Result<Option<Version>> {
    if path.extension().is_none_or(|extension| extension != "toml") {
        return Ok(None);
    }
    let mut line = String::new();
    BufReader::new(std::fs::File::open(path)?).read_line(&mut line)?;
    let Some(head) = line.strip_prefix(HEAD) else { return Ok(None) };
    serde_json::from_str(head).map(Some).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(summary: &str) -> Entry {
        Entry {
            who: "uid 0".to_owned(),
            source: "/etc/director.toml".to_owned(),
            summary: summary.to_owned(),
            confirmed: true,
        }
    }

    fn numbers(history: &History) -> Vec<u64> {
        history.versions().map(|version| version.version).collect()
    }

    #[test]
    fn versions_are_files_that_another_director_finds_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a/b");
        let mut history = History::open(&path);
        history.start("first = 1\n", entry("started"));
        assert!(!path.exists(), "who changes nothing leaves nothing");
        assert_eq!(history.add("second = \"ü\"\n", entry("one")), 2);
        assert_eq!((history.current(), history.before()), (Some(2), Some(1)));
        let text = std::fs::read_to_string(history.file(1)).expect("written with the second one");
        assert!(text.starts_with("# director {") && text.ends_with("}\nfirst = 1\n"), "{text}");

        let mut again = History::open(&path);
        assert_eq!(numbers(&again), [1, 2]);
        assert_eq!(&*again.text(2).expect("readable"), "second = \"ü\"\n");
        assert!(again.text(3).is_err());
        again.start("second = \"ü\"\n", entry("started"));
        assert_eq!((numbers(&again), again.current()), (vec![1, 2], Some(2)), "it goes on where it was");
        let mut other = History::open(&path);
        other.start("third = 3\n", entry("started"));
        assert_eq!((other.current(), other.before()), (Some(3), Some(2)));
    }

    #[test]
    fn going_back_twice_goes_back_further() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut history = History::open(directory.path());
        history.start("a", entry("started"));
        for text in ["b", "c"] {
            history.add(text, entry("more"));
        }
        history.go_back(history.before());
        history.go_back(history.before());
        assert_eq!((history.current(), history.before()), (Some(1), None));
        assert_eq!(history.add("d", entry("more")), 4);
        assert_eq!(history.before(), Some(1), "what ran before, not what was made before");
    }

    #[test]
    fn only_so_many_are_kept() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut history = History::open(directory.path());
        std::fs::write(directory.path().join("notes.toml"), "mine = 1\n").expect("written");
        for n in 0..VERSIONS + 5 {
            history.add(&format!("n = {n}\n"), entry("more"));
        }
        assert_eq!(numbers(&history), (6..=25).collect::<Vec<u64>>());
        let files = std::fs::read_dir(directory.path()).expect("readable").count();
        assert_eq!(files, VERSIONS + 1, "the operator's own file stays");
        assert_eq!(numbers(&History::open(directory.path())), numbers(&history));
    }

    #[test]
    fn what_cannot_be_written_is_kept_all_the_same_and_written_later() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("taken");
        std::fs::write(&path, "not a directory").expect("written");
        let mut history = History::open(&path);
        history.start("a", entry("started"));
        assert_eq!(history.add("b", entry("more")), 2);
        assert_eq!(&*history.text(1).expect("in memory"), "a");
        std::fs::remove_file(&path).expect("removed");
        history.add("c", entry("more"));
        assert_eq!(numbers(&History::open(&path)), [1, 2, 3]);
    }

    #[test]
    fn what_is_confirmed_is_so_on_disk() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut history = History::open(directory.path());
        history.start("a", entry("started"));
        let version = history.add("b", Entry { confirmed: false, ..entry("more") });
        let on_disk = || History::open(directory.path()).versions().last().map(|version| version.confirmed);
        assert_eq!(on_disk(), Some(false));
        history.confirm(version);
        assert_eq!((on_disk(), history.text(version).as_deref().ok()), (Some(true), Some("b")));
    }
}
