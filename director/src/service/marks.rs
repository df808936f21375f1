//! Which mark a packet has, by the operator's rules: what netfilter does for IPVS's services by mark.

use std::net::IpAddr;

use control::model::{Mark, MarkRule, PortRange, Prefix};

use crate::connection::protocol_number;
use crate::id::PortId;

/// What rules ask about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Where it comes from.
    pub source: (IpAddr, u16),
    /// Where it goes to.
    pub destination: (IpAddr, u16),
    /// IP protocol number.
    pub protocol: u8,
    /// The port that received it.
    pub ingress: PortId,
    /// Its DSCP (RFC 2474).
    pub dscp: u8,
}

/// The rules, in the order in which they are tried.
#[derive(Clone, Debug, Default)]
pub struct MarkRules {
    rules: Vec<MarkRule>,
    /// Rules of before, by which there may be connections: they mark no more, but their packets have to find their lcore.
    past: Vec<MarkRule>,
}

/// So many rules of before are remembered.
const MOST_PAST: usize = 256;

impl MarkRules {
    /// These rules, the first first.
    pub fn new(rules: Vec<MarkRule>) -> MarkRules {
        MarkRules { rules, past: Vec::new() }
    }

    /// These rules in the place of others.
    pub fn instead_of(rules: Vec<MarkRule>, others: &MarkRules) -> MarkRules {
        let was = others.rules.iter().chain(&others.past);
        let past = was.filter(|rule| !rules.contains(rule)).take(MOST_PAST).cloned().collect();
        MarkRules { rules, past }
    }

    /// Those that mark, in their order.
    pub fn rules(&self) -> &[MarkRule] {
        &self.rules
    }

    /// Those that mark, and those that did.
    fn all(&self) -> impl Iterator<Item = &MarkRule> {
        self.rules.iter().chain(&self.past)
    }

    /// Whether there are any: without, nobody need find out what they ask.
    #[inline]
    pub fn any(&self) -> bool {
        !self.rules.is_empty()
    }

    /// Whether any of them asks which port received a packet.
    pub fn ask_ingress(&self) -> bool {
        self.rules.iter().any(|rule| rule.ingress.is_some())
    }

    /// The mark of a packet: that of the first rule that fits.
    pub fn mark_of(&self, subject: &Subject) -> Option<Mark> {
        self.rules.iter().find(|rule| fits(rule, subject)).map(|rule| rule.mark)
    }

    /// Whether a packet between these ends may have a mark: of two packets of one connection, one may have come by
    /// another port, or with another DSCP.
    pub fn may_mark(&self, source: (IpAddr, u16), destination: (IpAddr, u16), protocol: u8) -> bool {
        self.all().any(|rule| fits_ends(rule, source, destination, protocol))
    }

    /// Whether it may by a rule that names where it goes.
    pub fn may_mark_by_destination(
        &self,
        source: (IpAddr, u16),
        destination: (IpAddr, u16),
        protocol: u8,
    ) -> bool {
        let mut named = self.all().filter(|rule| !rule.destinations.is_empty());
        named.any(|rule| fits_ends(rule, source, destination, protocol))
    }

    /// Whether a packet between these addresses may have a mark.
    pub fn may_concern(&self, source: IpAddr, destination: IpAddr) -> bool {
        self.all().any(|rule| is_of(source, &rule.sources) && is_of(destination, &rule.destinations))
    }
}

fn fits(rule: &MarkRule, subject: &Subject) -> bool {
    let Subject { source, destination, protocol, ingress, dscp } = *subject;
    fits_ends(rule, source, destination, protocol)
        && rule.ingress.is_none_or(|asked| asked == ingress.0)
        && rule.dscp.is_none_or(|asked| asked == dscp)
}

fn fits_ends(rule: &MarkRule, source: (IpAddr, u16), destination: (IpAddr, u16), protocol: u8) -> bool {
    rule.protocol.is_none_or(|asked| protocol_number(asked) == protocol)
        && is_of(destination.0, &rule.destinations)
        && is_within(destination.1, &rule.destination_ports)
        && is_of(source.0, &rule.sources)
        && is_within(source.1, &rule.source_ports)
}

fn is_of(address: IpAddr, networks: &[Prefix]) -> bool {
    networks.is_empty() || networks.iter().any(|network| network.contains(address))
}

fn is_within(port: u16, ranges: &[PortRange]) -> bool {
    ranges.is_empty() || ranges.iter().any(|range| range.0.contains(&port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::model::Protocol;
    use std::num::NonZeroU32;

    fn mark(number: u32) -> Mark {
        Mark(NonZeroU32::new(number).expect("no mark is 0"))
    }

    fn any(number: u32) -> MarkRule {
        MarkRule {
            mark: mark(number),
            protocol: None,
            sources: Vec::new(),
            destinations: Vec::new(),
            source_ports: Vec::new(),
            destination_ports: Vec::new(),
            ingress: None,
            dscp: None,
        }
    }

    const SUBJECT: Subject = Subject {
        source: (IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)), 40_000),
        destination: (IpAddr::V4(std::net::Ipv4Addr::new(10, 99, 0, 1)), 443),
        protocol: 6,
        ingress: PortId(1),
        dscp: 46,
    };

    fn prefixes(texts: &[&str]) -> Vec<Prefix> {
        texts.iter().map(|text| text.parse().expect(text)).collect()
    }

    fn ports(texts: &[&str]) -> Vec<PortRange> {
        texts.iter().map(|text| text.parse().expect(text)).collect()
    }

    #[test]
    fn whatever_is_asked_for_must_hold() {
        let fitting = [
            any(1),
            MarkRule { protocol: Some(Protocol::Tcp), ..any(1) },
            MarkRule { sources: prefixes(&["198.51.100.0/24", "192.0.2.0/24"]), ..any(1) },
            MarkRule { destinations: prefixes(&["10.99.0.1"]), ..any(1) },
            MarkRule { source_ports: ports(&["1024-65535"]), ..any(1) },
            MarkRule { destination_ports: ports(&["80", "443"]), ..any(1) },
            MarkRule { ingress: Some(1), ..any(1) },
            MarkRule { dscp: Some(46), ..any(1) },
        ];
        for rule in fitting {
            assert_eq!(MarkRules::new(vec![rule.clone()]).mark_of(&SUBJECT), Some(mark(1)), "{rule}");
        }
        let others = [
            MarkRule { protocol: Some(Protocol::Udp), ..any(1) },
            MarkRule { sources: prefixes(&["198.51.100.0/24"]), ..any(1) },
            MarkRule { destinations: prefixes(&["10.99.0.2", "::/0"]), ..any(1) },
            MarkRule { source_ports: ports(&["1-1023"]), ..any(1) },
            MarkRule { destination_ports: ports(&["80", "444-65535"]), ..any(1) },
            MarkRule { ingress: Some(0), ..any(1) },
            MarkRule { dscp: Some(0), ..any(1) },
        ];
        for rule in others {
            assert_eq!(MarkRules::new(vec![rule.clone()]).mark_of(&SUBJECT), None, "{rule}");
        }
    }

    #[test]
    fn the_first_rule_that_fits_counts() {
        let rules = MarkRules::new(vec![
            MarkRule { destination_ports: ports(&["80"]), ..any(1) },
            MarkRule { destination_ports: ports(&["443"]), ..any(2) },
            any(3),
        ]);
        let to = |port| Subject { destination: (SUBJECT.destination.0, port), ..SUBJECT };
        let marks = [80, 443, 8080].map(|port| rules.mark_of(&to(port)));
        assert_eq!(marks, [1, 2, 3].map(|number| Some(mark(number))));
        assert!(rules.any() && !rules.ask_ingress() && !MarkRules::default().any());
    }

    #[test]
    fn addresses_alone_tell_whether_there_may_be_a_mark() {
        let rules = MarkRules::new(vec![MarkRule {
            destinations: prefixes(&["10.99.0.0/24"]),
            destination_ports: ports(&["80"]),
            ..any(1)
        }]);
        let client = SUBJECT.source.0;
        let at = |port| (SUBJECT.destination.0, port);
        assert!(rules.may_mark_by_destination(SUBJECT.source, at(80), 17));
        assert!(!MarkRules::new(vec![any(1)]).may_mark_by_destination(SUBJECT.source, at(80), 17));
        assert!(rules.may_mark(SUBJECT.source, at(80), 17) && !rules.may_mark(SUBJECT.source, at(81), 17));
        assert!(rules.may_concern(client, SUBJECT.destination.0));
        assert!(!rules.may_concern(SUBJECT.destination.0, client));
    }

    #[test]
    fn rules_of_before_mark_nothing_but_are_remembered() {
        let web =
            MarkRule { destination_ports: ports(&["443"]), destinations: prefixes(&["10.99.0.1"]), ..any(1) };
        let other = MarkRule { destination_ports: ports(&["80"]), ..any(2) };
        let before = MarkRules::new(vec![web.clone(), other.clone()]);
        let after = MarkRules::instead_of(vec![other.clone()], &before);
        let Subject { source, destination, .. } = SUBJECT;
        assert_eq!((before.mark_of(&SUBJECT), after.mark_of(&SUBJECT)), (Some(mark(1)), None));
        assert!(
            after.may_mark(source, destination, 6) && after.may_mark_by_destination(source, destination, 6)
        );
        assert!(after.may_concern(source.0, destination.0));
        assert!(!after.may_mark(source, (destination.0, 22), 6));
        assert_eq!(after.rules(), std::slice::from_ref(&other));
        let again = MarkRules::instead_of(vec![web, other], &after);
        assert!(again.past.is_empty() && again.mark_of(&SUBJECT) == Some(mark(1)));
        let none = MarkRules::instead_of(Vec::new(), &again);
        assert!(!none.any() && none.may_mark(source, destination, 6));
    }
}
