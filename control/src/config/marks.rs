//! The rules of the configuration by which packets get marks.

use std::num::NonZeroU32;
use std::str::FromStr;

use super::errors::{Complaints, Site};
use super::number;
use super::raw::RawMark;
use super::services::word;
use super::walk::At;
use crate::model::{Mark, MarkRule, ParseWordError, Protocol};

/// Understands every `[[mark]]`. Complains of all that is wrong, and leaves that out.
pub(super) fn marks(raw: &[RawMark], ports: usize, complaints: &mut Complaints<'_>) -> Vec<MarkRule> {
    if let Some(first_too_many) = raw.get(number::MAX_MARK_RULES) {
        complaints.add(
            &first_too_many.site,
            format!("there is no room for more than {} rules", number::MAX_MARK_RULES),
            "put several networks or ranges of ports into one rule",
        );
    }
    raw.iter().filter_map(|raw| rule(raw, ports, complaints)).collect()
}

fn rule(raw: &RawMark, ports: usize, complaints: &mut Complaints<'_>) -> Option<MarkRule> {
    if !raw.has_mark {
        complaints.add(&raw.site, "the rule has no `mark`", "add the mark that it gives, e.g. mark = 1");
    }
    if !raw.asks {
        complaints.add(
            &raw.site,
            "the rule asks for nothing, so that every packet would be marked",
            "add what such packets have in common, e.g. destinations = [\"10.99.0.1\"]; if all of IPv4 is meant, \
             destinations = [\"0.0.0.0/0\"]",
        );
    }
    let rule = MarkRule {
        mark: mark(raw.mark.as_ref(), complaints).unwrap_or(Mark::FIRST),
        protocol: word(raw.protocol.as_ref(), Protocol::ALL, Protocol::word, complaints),
        sources: all(raw.sources.as_ref(), complaints),
        destinations: all(raw.destinations.as_ref(), complaints),
        source_ports: all(raw.source_ports.as_ref(), complaints),
        destination_ports: all(raw.destination_ports.as_ref(), complaints),
        ingress: ingress(raw, ports, complaints),
        dscp: number::within(raw.dscp.as_ref(), number::DSCP, complaints),
    };
    let has_both = !rule.sources.is_empty() && !rule.destinations.is_empty();
    let meets = rule.sources.iter().any(|s| rule.destinations.iter().any(|d| s.is_ipv4() == d.is_ipv4()));
    if has_both && !meets {
        complaints.add(
            &raw.site,
            "no packet goes from IPv4 to IPv6, or the other way",
            "give sources and destinations of one family",
        );
    }
    raw.mark.is_some().then_some(rule)
}

/// The mark that a number is. Complains of one that is none.
pub(super) fn mark(given: Option<&At<i128>>, complaints: &mut Complaints<'_>) -> Option<Mark> {
    number::within(given, number::MARK, complaints).and_then(NonZeroU32::new).map(Mark)
}

fn ingress(raw: &RawMark, ports: usize, complaints: &mut Complaints<'_>) -> Option<u8> {
    let At { value, site } = raw.ingress.as_ref()?;
    match u8::try_from(*value) {
        Ok(index) if usize::from(index) < ports => Some(index),
        _ => {
            let last = ports.saturating_sub(1);
            complaints.add(
                site,
                format!("there is no port {value}"),
                format!("give the index of a [[port]], counted from 0; the last one is {last}"),
            );
            None
        }
    }
}

/// What a list's texts mean. Complains of each that means nothing, and of an empty list.
fn all<T: FromStr<Err = ParseWordError>>(
    given: Option<&At<Vec<At<String>>>>,
    complaints: &mut Complaints<'_>,
) -> Vec<T> {
    let Some(At { value: texts, site }) = given else { return Vec::new() };
    if texts.is_empty() {
        complaints.add(site, "the list is empty", "remove it: what is not asked for may be anything");
    }
    texts.iter().filter_map(|At { value, site }| parsed(value, site, complaints)).collect()
}

fn parsed<T: FromStr<Err = ParseWordError>>(
    text: &str,
    site: &Site,
    complaints: &mut Complaints<'_>,
) -> Option<T> {
    match text.parse() {
        Ok(value) => Some(value),
        Err(error) => {
            complaints.add(
                site,
                format!("{text:?} is no {}", error.what),
                format!("write {}", error.expected),
            );
            None
        }
    }
}
