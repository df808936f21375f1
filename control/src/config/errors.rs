//! Everything that is wrong with a configuration, each with its place and its remedy.

use std::fmt;

/// A place in the file; both count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file as it was named by the operator.
    pub file: String,
    /// Where in the file; none if the file could not be read at all.
    pub position: Option<Position>,
    /// The key, e.g. `service[2].server[0].address`; empty for a file that cannot be read or is not TOML.
    pub key: String,
    /// What is wrong.
    pub reason: String,
    /// How to mend it.
    pub remedy: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(Position { line, column }) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}\n    to mend it: {}", self.reason, self.remedy)
    }
}

/// All that is wrong with a configuration, in the order of the file. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    pub(super) fn one(error: ConfigError) -> Self {
        ConfigErrors(vec![error])
    }

    /// The errors in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.0.iter()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Where a value stands: its offset in the text and the path of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Site {
    pub(super) offset: usize,
    pub(super) key: String,
}

/// Collects what is wrong while the file is read.
pub(super) struct Complaints<'t> {
    file: &'t str,
    text: &'t str,
    line_starts: Vec<usize>,
    found: Vec<ConfigError>,
}

impl<'t> Complaints<'t> {
    pub(super) fn new(text: &'t str, file: &'t str) -> Self {
        let after_newlines = text.match_indices('\n').map(|(newline, _)| newline + 1);
        let line_starts = std::iter::once(0).chain(after_newlines).collect();
        Complaints { file, text, line_starts, found: Vec::new() }
    }

    pub(super) fn add(&mut self, site: &Site, reason: impl Into<String>, remedy: impl Into<String>) {
        self.found.push(ConfigError {
            file: self.file.to_owned(),
            position: Some(self.position(site.offset)),
            key: site.key.clone(),
            reason: reason.into(),
            remedy: remedy.into(),
        });
    }

    /// Whether nothing is wrong so far.
    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    fn position(&self, offset: usize) -> Position {
        let offset = offset.min(self.text.len());
        let line = self.line_starts.partition_point(|&start| start <= offset);
        let start = self.line_starts[line - 1];
        // An offset inside a character cannot come from the parser; count it as that character's start.
        let column = self.text[start..].char_indices().take_while(|(at, _)| start + at < offset).count() + 1;
        Position { line, column }
    }

    /// The errors in the order of the file; none if nothing is wrong.
    pub(super) fn finish(mut self) -> Option<ConfigErrors> {
        self.found.sort_by_key(|error| error.position);
        (!self.found.is_empty()).then_some(ConfigErrors(self.found))
    }
}
