//! Findings in the order in which they matter, for people and for programs.

use std::fmt;

use serde::Serialize;

use super::finding::{Finding, Grade};

/// All that was found out.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether nothing was found that keeps the director from starting.
    pub starts: bool,
    /// What was found: obstacles first, then advice by what is to be gained, then what is good.
    pub findings: Vec<Finding>,
}

impl Report {
    pub(super) fn of(mut findings: Vec<Finding>) -> Self {
        // Stable: of equal weight, the order of the checks stays.
        findings.sort_by_key(|finding| (finding.grade, finding.gain));
        let starts = findings.iter().all(|finding| finding.grade != Grade::Obstacle);
        Self { starts, findings }
    }

    /// The same with more findings.
    #[must_use]
    pub fn with(mut self, more: Vec<Finding>) -> Self {
        self.findings.extend(more);
        Self::of(self.findings)
    }

    /// One line of JSON, as `director check --json` prints it.
    #[must_use]
    pub fn json(&self) -> String {
        // Strings and a flag: nothing that JSON could refuse.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (grade, title) in [
            (Grade::Obstacle, "What keeps the director from starting"),
            (Grade::Advice, "What would make it better, the greatest gain first"),
            (Grade::Good, "What is good"),
        ] {
            let of_grade: Vec<&Finding> = self.findings.iter().filter(|found| found.grade == grade).collect();
            if of_grade.is_empty() {
                continue;
            }
            writeln!(f, "\n{title}:")?;
            for Finding { about, says, costs, remedy, .. } in of_grade {
                writeln!(f, "  {about}: {says}")?;
                if let Some(costs) = costs {
                    writeln!(f, "      costs: {costs}")?;
                }
                if let Some(remedy) = remedy {
                    writeln!(f, "      do: {remedy}")?;
                }
            }
        }
        Ok(())
    }
}
