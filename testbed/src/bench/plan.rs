//! How much is measured: everything, a quick look, or just whether it works.

use super::case::{Case, Direction, Method, Traffic};
use super::span::Span;

/// Cases that share a capture: they are measured in turn, round after round, beside testpmd on the same.
#[derive(Clone, Debug)]
pub struct Group {
    /// What the frames are.
    pub traffic: Traffic,
    /// Which way they go.
    pub direction: Direction,
    /// Of how many connections.
    pub connections: u32,
    /// Worker lcores, one queue each.
    pub lcores: u8,
}

impl Group {
    /// The methods that such packets are forwarded by.
    #[must_use]
    pub fn cases(&self) -> Vec<Case> {
        let methods: &[Method] = match self.direction {
            // GUE beside IP in IP, where one case tells all that differs.
            Direction::Request if self.is_usual() => {
                &[Method::Dr, Method::Tun, Method::Gue, Method::NatRequest]
            }
            Direction::Request => &[Method::Dr, Method::Tun, Method::NatRequest],
            Direction::Reply => &[Method::NatReply],
        };
        let case = |&method| Case {
            method,
            traffic: self.traffic,
            connections: self.connections,
            lcores: self.lcores,
        };
        methods.iter().map(case).collect()
    }

    fn is_usual(&self) -> bool {
        (self.traffic, self.connections, self.lcores) == (Traffic::Udp, 10_000, 1)
    }
}

/// What a run does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is measured on captures.
    pub groups: Vec<Group>,
    /// Connections that a capture cannot hold, and those to compare them with, and fragments, whose identifications must
    /// differ from round to round: on stamped packets.
    pub stamped: Vec<(Traffic, u32)>,
    /// How often each is measured.
    pub rounds: u32,
    /// Up to how many connections each round has processes of its own: the more there are, the longer captures take to
    /// load, and the less it matters.
    pub restarted_upto: u32,
    /// How often each is measured on stamped packets, whose tables take long to fill.
    pub stamped_rounds: u32,
    /// How long each time.
    pub span: Span,
    /// New connections to open, beside old ones that expire meanwhile.
    pub open: (u32, u32),
    /// Services beside those of the benchmark, with ten real servers each, while weights change.
    pub services: u32,
    /// How long weights change, a thousand times a second.
    pub swap: Span,
    /// Changes that are timed.
    pub changes: u32,
    /// How long each load is held while latency is looked at.
    pub pace: Span,
    /// How long a whole director is watched being scraped, or not, in milliseconds.
    pub watched_ms: u64,
    /// Connections of the cases that are disturbed: by changes, by expiry, by packets at the wrong lcore.
    pub disturbed: u32,
}

const BOTH: [Traffic; 2] = [Traffic::Udp, Traffic::Tcp];
const WAYS: [Direction; 2] = [Direction::Request, Direction::Reply];

fn groups(traffics: &[Traffic], connections: &[u32], lcores: u8) -> Vec<Group> {
    let mut groups = Vec::new();
    for &connections in connections {
        for &traffic in traffics {
            groups.extend(WAYS.map(|direction| Group { traffic, direction, connections, lcores }));
        }
    }
    groups
}

impl Plan {
    /// Everything.
    #[must_use]
    pub fn full() -> Plan {
        Plan {
            groups: [
                groups(&BOTH, &[1, 10_000, 1_000_000], 1),
                groups(&[Traffic::Udp6, Traffic::Tcp6], &[10_000], 1),
                groups(&BOTH, &[10_000, 1_000_000], 2),
            ]
            .concat(),
            stamped: BOTH
                .into_iter()
                .flat_map(|traffic| [(traffic, 1_000_000), (traffic, 10_000_000)])
                .chain([(Traffic::UdpFragments, 10_000)])
                .collect(),
            rounds: 5,
            restarted_upto: 1_000_000,
            stamped_rounds: 3,
            span: Span { warm_up_ms: 150, run_ms: 400 },
            open: (2_000_000, 10_000_000),
            services: 10_000,
            swap: Span { warm_up_ms: 200, run_ms: 10_000 },
            changes: 500,
            pace: Span { warm_up_ms: 500, run_ms: 5000 },
            watched_ms: 5000,
            disturbed: 10_000,
        }
    }

    /// Less of each: under three minutes.
    #[must_use]
    pub fn quick() -> Plan {
        Plan {
            groups: [
                groups(&BOTH, &[1, 10_000, 1_000_000], 1),
                groups(&[Traffic::Udp6], &[10_000], 1),
                groups(&[Traffic::Udp], &[1_000_000], 2),
            ]
            .concat(),
            stamped: vec![
                (Traffic::Udp, 1_000_000),
                (Traffic::Udp, 10_000_000),
                (Traffic::UdpFragments, 10_000),
            ],
            rounds: 3,
            restarted_upto: 10_000,
            stamped_rounds: 1,
            span: Span { warm_up_ms: 80, run_ms: 150 },
            swap: Span { warm_up_ms: 100, run_ms: 2000 },
            changes: 100,
            pace: Span { warm_up_ms: 200, run_ms: 1000 },
            watched_ms: 1000,
            ..Plan::full()
        }
    }

    /// Whether it works at all, in ordinary memory and in seconds. Its figures mean nothing.
    #[must_use]
    pub fn smoke() -> Plan {
        Plan {
            groups: [
                groups(&BOTH, &[1, 1000], 1),
                groups(&[Traffic::Udp6, Traffic::Tcp6], &[1000], 1),
                groups(&[Traffic::Udp], &[1000], 2),
            ]
            .concat(),
            stamped: vec![(Traffic::Tcp, 1000), (Traffic::UdpFragments, 1000)],
            rounds: 1,
            restarted_upto: 0,
            stamped_rounds: 1,
            span: Span { warm_up_ms: 20, run_ms: 20 },
            open: (1000, 20_000),
            services: 50,
            swap: Span { warm_up_ms: 10, run_ms: 100 },
            changes: 5,
            pace: Span { warm_up_ms: 20, run_ms: 100 },
            watched_ms: 300,
            disturbed: 1000,
        }
    }

    /// Keeps of the groups and of the stamped cases those of which a case's name contains `text`.
    pub fn only(&mut self, text: &str) {
        let named = |group: &Group| group.cases().iter().any(|case| case.to_string().contains(text));
        self.groups.retain(named);
        self.stamped.retain(|&(traffic, connections)| {
            WAYS.iter().any(|&direction| named(&Group { traffic, direction, connections, lcores: 1 }))
        });
    }
}
