//! What requests say about parts of a service.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{PersistenceEdit, PersistenceEngine};

/// Persistence as a request gives it. What is left out stays as it was, or has ipvsadm's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PersistenceOptions {
    /// How long a template lasts, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u32>,
    /// How many bits of a client's address count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub granularity: Option<u8>,
    /// What in a packet names its template, besides the client's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<PersistenceEngine>,
}

impl From<PersistenceOptions> for PersistenceEdit {
    fn from(options: PersistenceOptions) -> Self {
        let PersistenceOptions { timeout, granularity, engine } = options;
        let timeout = timeout.map(|seconds| Duration::from_secs(seconds.into()));
        PersistenceEdit::On { timeout, granularity, engine }
    }
}

/// What `service.edit` makes of a service's persistence: `"off"`, or an object of options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PersistenceChange {
    /// Persistent no longer.
    Off(Off),
    /// Persistent from now on.
    On(PersistenceOptions),
}

/// The word `"off"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Off {
    /// `"off"`.
    Off,
}

impl PersistenceChange {
    /// Persistent no longer.
    pub const OFF: PersistenceChange = PersistenceChange::Off(Off::Off);
}

impl From<PersistenceChange> for PersistenceEdit {
    fn from(change: PersistenceChange) -> Self {
        match change {
            PersistenceChange::Off(Off::Off) => PersistenceEdit::Off,
            PersistenceChange::On(options) => options.into(),
        }
    }
}
