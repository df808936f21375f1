//! Words into options as popt does it, which ipvsadm reads its command line with: long options with `=` or the next
//! word, clusters of short ones, `--`, and words that are no options anywhere between.

use super::options::{Takes, WRITTEN, Written};

/// Why popt gives up. What it says about it, and about which word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) word: String,
    pub(super) what: &'static str,
}

const UNKNOWN: &str = "unknown option";
const MISSING: &str = "missing argument";
const UNWANTED: &str = "option does not take an argument";

/// An option as it was found.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) option: &'static Written,
    /// What goes with it, if there is something.
    pub(super) value: Option<String>,
}

/// Reads words one option after the other.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    words: &'a [String],
    /// The next word.
    next: usize,
    /// The rest of a cluster of short options, as bytes of the word before `next`.
    cluster: Option<&'a [u8]>,
    /// After `--` nothing is an option.
    only_words: bool,
    /// Words that are no options.
    rest: std::collections::VecDeque<String>,
}

impl<'a> Scanner<'a> {
    /// Reads these words, the program's name not among them.
    pub(super) fn new(words: &'a [String]) -> Scanner<'a> {
        Scanner { words, next: 0, cluster: None, only_words: false, rest: Default::default() }
    }

    /// The word that was looked at last, whole.
    pub(super) fn word(&self) -> String {
        self.next.checked_sub(1).and_then(|last| self.words.get(last)).cloned().unwrap_or_default()
    }

    /// The next word that is no option, of those that were passed.
    pub(super) fn argument(&mut self) -> Option<String> {
        self.rest.pop_front()
    }

    /// The next option; none at the end.
    pub(super) fn option(&mut self) -> Result<Option<Found>, Fault> {
        let mut value = None;
        let option = loop {
            if let Some(letters) = self.cluster.take() {
                break self.letter(letters)?;
            }
            let Some(word) = self.words.get(self.next) else { return Ok(None) };
            self.next += 1;
            if self.only_words || !word.starts_with('-') || word == "-" {
                self.rest.push_back(word.clone());
            } else if word == "--" {
                self.only_words = true;
            } else if let Some(name) = word.strip_prefix("--") {
                let (name, with) = name.split_once('=').map_or((name, None), |(n, v)| (n, Some(v)));
                let found = WRITTEN.iter().find(|written| written.long == name);
                value = with.map(str::to_owned);
                break found.ok_or_else(|| self.fault(UNKNOWN))?;
            } else {
                self.cluster = Some(&word.as_bytes()[1..]);
            }
        };
        match option.takes {
            Takes::Nothing => {
                if value.is_some() || self.cluster.is_some_and(|rest| rest.first() == Some(&b'=')) {
                    return Err(self.fault(UNWANTED));
                }
            }
            Takes::Word | Takes::OptionalWord => {
                value = match value {
                    Some(value) => Some(value),
                    None => self.value(option.takes)?,
                };
            }
        }
        Ok(Some(Found { option, value }))
    }

    /// The option of a cluster's first letter, and what is left of the cluster.
    fn letter(&mut self, letters: &'a [u8]) -> Result<&'static Written, Fault> {
        let (letter, rest) = letters.split_first().ok_or_else(|| self.fault(UNKNOWN))?;
        let found = WRITTEN.iter().find(|written| written.short == Some(*letter));
        let option = found.ok_or_else(|| self.fault(UNKNOWN))?;
        if !rest.is_empty() {
            self.cluster = Some(rest);
        }
        Ok(option)
    }

    /// What goes with an option: the rest of its cluster, else the next word.
    fn value(&mut self, takes: Takes) -> Result<Option<String>, Fault> {
        if let Some(rest) = self.cluster.take() {
            // `-t=VALUE` is `-tVALUE`.
            let rest = rest.strip_prefix(b"=").unwrap_or(rest);
            return Ok(Some(String::from_utf8_lossy(rest).into_owned()));
        }
        match self.words.get(self.next) {
            None if takes == Takes::OptionalWord => Ok(None),
            None => Err(self.fault(MISSING)),
            Some(word) if takes == Takes::OptionalWord && word.starts_with('-') => Ok(None),
            Some(word) => {
                self.next += 1;
                Ok(Some(word.clone()))
            }
        }
    }

    fn fault(&self, what: &'static str) -> Fault {
        Fault { word: self.word(), what }
    }
}
