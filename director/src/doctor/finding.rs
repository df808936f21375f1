//! One thing that was found out.

use serde::Serialize;

/// What a finding means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// The director cannot start.
    Obstacle,
    /// It starts, and could do better.
    Advice,
    /// As it should be.
    Good,
}

/// How much is to be gained, the most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Gain {
    /// Several times the packets, or no outage.
    Much,
    /// A good part of the packets or of the latency.
    Some,
    /// The last percents, and outliers.
    Little,
}

/// One thing that was found out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it means.
    pub grade: Grade,
    /// What it is about, in a word.
    pub about: &'static str,
    /// What was found.
    pub says: String,
    /// What that costs, and about how much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub costs: Option<&'static str>,
    /// What to do: a command, or a line of the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    #[serde(skip)]
    pub(crate) gain: Gain,
}

impl Finding {
    pub(crate) fn good(about: &'static str, says: impl Into<String>) -> Self {
        Self { grade: Grade::Good, about, says: says.into(), costs: None, remedy: None, gain: Gain::Little }
    }

    /// What an attempt to start came to, remedy included.
    pub fn failure(about: &'static str, says: impl Into<String>) -> Self {
        let says = says.into();
        Self { grade: Grade::Obstacle, about, says, costs: None, remedy: None, gain: Gain::Much }
    }

    pub(crate) fn obstacle(about: &'static str, says: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = Some(remedy.into());
        Self { grade: Grade::Obstacle, about, says: says.into(), costs: None, remedy, gain: Gain::Much }
    }

    pub(crate) fn advice(
        about: &'static str,
        gain: Gain,
        says: impl Into<String>,
        costs: &'static str,
        remedy: impl Into<String>,
    ) -> Self {
        let (costs, remedy) = (Some(costs), Some(remedy.into()));
        Self { grade: Grade::Advice, about, says: says.into(), costs, remedy, gain }
    }
}
