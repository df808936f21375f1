//! The configuration as the protocol tells of it: what another one would change, what was changed, what ran before.

use serde::{Deserialize, Serialize};

use crate::history::Version;
use crate::plan::{Difference, KeyChange};

/// How another configuration differs, and whether it could be applied. To `config.diff`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigDiff {
    /// What differs and can change while the director runs.
    pub difference: Difference,
    /// What differs and cannot: with any of it the configuration would be refused.
    pub needs_restart: Vec<KeyChange>,
}

/// A configuration runs. To `config.apply` and `config.rollback`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Its number among the versions; null: it is none of them, but what ran before, changes by hand included.
    pub version: Option<u64>,
    /// What it changed.
    pub difference: Difference,
    /// In how many seconds it is taken back unless it is confirmed; null: it stays.
    pub confirm_within: Option<u32>,
}

/// The configurations that ran. To `config.history`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigHistory {
    /// The versions that are kept, the oldest first.
    pub versions: Vec<Version>,
    /// The version that runs, but for changes by hand.
    pub current: Option<u64>,
    /// In how many milliseconds it is taken back unless it is confirmed; null: it stays.
    pub taken_back_in_ms: Option<u64>,
}
