//! Rules that let a NIC spread TCP and UDP by one side alone: rte_flow with an RSS action.
//!
//! The key and the owner of a connection are made so that the hash of the client's side names the lcore. By
//! both sides at once a NIC spreads evenly too, but by the virtual address as well, so that most packets come to
//! an lcore that has to hand them over.

use std::ffi::CStr;
use std::marker::PhantomData;
use std::ptr::{NonNull, null};

use dpdk_sys::{
    rte_flow, rte_flow_action, rte_flow_action_rss, rte_flow_attr, rte_flow_error, rte_flow_item,
};

use super::error::{error_number, error_text};

/// The side of a packet that is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Source,
    Destination,
}

impl Side {
    /// Address and port of this side alone.
    fn only(self) -> u64 {
        match self {
            Side::Source => dpdk_sys::DPDK_SYS_RSS_L3_SRC_ONLY | dpdk_sys::DPDK_SYS_RSS_L4_SRC_ONLY,
            Side::Destination => dpdk_sys::DPDK_SYS_RSS_L3_DST_ONLY | dpdk_sys::DPDK_SYS_RSS_L4_DST_ONLY,
        }
    }
}

/// What is spread: a rule for each, as the layout of a hash's input is the transport protocol's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Traffic {
    Tcp4,
    Udp4,
    Tcp6,
    Udp6,
}

impl Traffic {
    const ALL: [Traffic; 4] = [Traffic::Tcp4, Traffic::Udp4, Traffic::Tcp6, Traffic::Udp6];

    /// The headers in a rule's pattern: of IP and of the transport protocol.
    fn items(self) -> [u32; 2] {
        let (ipv4, ipv6) = (dpdk_sys::RTE_FLOW_ITEM_TYPE_IPV4, dpdk_sys::RTE_FLOW_ITEM_TYPE_IPV6);
        let (tcp, udp) = (dpdk_sys::RTE_FLOW_ITEM_TYPE_TCP, dpdk_sys::RTE_FLOW_ITEM_TYPE_UDP);
        match self {
            Traffic::Tcp4 => [ipv4, tcp],
            Traffic::Udp4 => [ipv4, udp],
            Traffic::Tcp6 => [ipv6, tcp],
            Traffic::Udp6 => [ipv6, udp],
        }
    }

    /// What is hashed of it, as a `RTE_ETH_RSS_*` bit.
    fn type_(self) -> u64 {
        match self {
            Traffic::Tcp4 => dpdk_sys::DPDK_SYS_RSS_NONFRAG_IPV4_TCP,
            Traffic::Udp4 => dpdk_sys::DPDK_SYS_RSS_NONFRAG_IPV4_UDP,
            Traffic::Tcp6 => dpdk_sys::DPDK_SYS_RSS_NONFRAG_IPV6_TCP,
            Traffic::Udp6 => dpdk_sys::DPDK_SYS_RSS_NONFRAG_IPV6_UDP,
        }
    }

    /// The bit of its version of IP.
    fn version(self) -> u64 {
        match self {
            Traffic::Tcp4 | Traffic::Udp4 => dpdk_sys::DPDK_SYS_RSS_IPV4,
            Traffic::Tcp6 | Traffic::Udp6 => dpdk_sys::DPDK_SYS_RSS_IPV6,
        }
    }
}

/// Where a rule's key and queues stand. Each way is the only one that some drivers take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wording<'a> {
    /// In the rule: mlx5 asks for queues, and for the version of IP by name where half of it is hashed.
    Whole { key: &'a [u8], queues: &'a [u16] },
    /// Nowhere, as the port was configured with them: i40e, ice and iavf refuse a rule that says it again, ice
    /// IP beside TCP too.
    AsConfigured,
}

/// A rule, ready to be given to a driver.
pub(super) struct Rule<'a> {
    pattern: [rte_flow_item; 4],
    rss: rte_flow_action_rss,
    /// What `rss` points to.
    wording: PhantomData<Wording<'a>>,
}

impl<'a> Rule<'a> {
    /// All packets of this traffic, whatever their addresses, by one side over the queues.
    pub(super) fn new(traffic: Traffic, side: Side, wording: Wording<'a>) -> Self {
        let [ip, transport] = traffic.items();
        let items = [dpdk_sys::RTE_FLOW_ITEM_TYPE_ETH, ip, transport, dpdk_sys::RTE_FLOW_ITEM_TYPE_END];
        let mut rss = rte_flow_action_rss {
            // By name: a driver that hashes otherwise, or does not care what it is asked for, refuses.
            func: dpdk_sys::RTE_ETH_HASH_FUNCTION_TOEPLITZ,
            types: traffic.type_() | side.only(),
            ..Default::default()
        };
        if let Wording::Whole { key, queues } = wording {
            rss.types |= traffic.version();
            (rss.key, rss.key_len) = (key.as_ptr(), key.len() as u32);
            (rss.queue, rss.queue_num) = (queues.as_ptr(), queues.len() as u32);
        }
        Self {
            pattern: items.map(|type_| rte_flow_item { type_, ..Default::default() }),
            rss,
            wording: PhantomData,
        }
    }

    /// What is hashed, as DPDK's `RTE_ETH_RSS_*` bits.
    fn types(&self) -> u64 {
        self.rss.types
    }

    /// What is done with a packet. Points into `self`.
    fn actions(&self) -> [rte_flow_action; 2] {
        let rss =
            rte_flow_action { type_: dpdk_sys::RTE_FLOW_ACTION_TYPE_RSS, conf: (&raw const self.rss).cast() };
        [rss, rte_flow_action { type_: dpdk_sys::RTE_FLOW_ACTION_TYPE_END, conf: null() }]
    }

    /// Asks the driver first, and gives it the rule if it would take it.
    fn create(&self, port: u16) -> Result<Flow, String> {
        let attributes = attributes();
        let actions = self.actions();
        let mut error = rte_flow_error::default();
        // SAFETY: the port is started; pattern and actions end as DPDK wants them to, and what they point to
        // lives through the call.
        let code = unsafe {
            dpdk_sys::rte_flow_validate(
                port,
                &attributes,
                self.pattern.as_ptr(),
                actions.as_ptr(),
                &mut error,
            )
        };
        if code != 0 {
            return Err(reason(&error, code));
        }
        // SAFETY: as above; the driver keeps a copy.
        let flow = unsafe {
            dpdk_sys::rte_flow_create(port, &attributes, self.pattern.as_ptr(), actions.as_ptr(), &mut error)
        };
        NonNull::new(flow).map(Flow).ok_or_else(|| reason(&error, -1))
    }
}

/// Rules are for what comes in.
fn attributes() -> rte_flow_attr {
    let mut attributes = rte_flow_attr::default();
    attributes.set_ingress(1);
    attributes
}

/// Why a driver refuses, in its own words where it has some.
fn reason(error: &rte_flow_error, code: i32) -> String {
    if error.message.is_null() {
        return error_text(error_number(code));
    }
    // SAFETY: a string of the driver, which stays loaded.
    unsafe { CStr::from_ptr(error.message) }.to_string_lossy().into_owned()
}

/// A rule that a port has.
pub(super) struct Flow(NonNull<rte_flow>);

// SAFETY: a handle, which DPDK takes from any thread, one at a time.
unsafe impl Send for Flow {}

impl Flow {
    /// Takes the rule from its port, which is not closed yet. Says why that failed.
    pub(super) fn destroy(self, port: u16) -> Result<(), String> {
        let mut error = rte_flow_error::default();
        // SAFETY: a rule of the port, destroyed once.
        match unsafe { dpdk_sys::rte_flow_destroy(port, self.0.as_ptr(), &mut error) } {
            0 => Ok(()),
            code => Err(reason(&error, code)),
        }
    }
}

/// Gives a started port the rules for one side, in the first of the wordings that its driver takes: one for
/// each transport protocol over each version of IP, or none. Returns them, and what they hash.
///
/// # Errors
/// The driver's reasons.
pub(super) fn spread(port: u16, side: Side, wordings: &[Wording<'_>]) -> Result<(Vec<Flow>, u64), String> {
    let mut reasons = Vec::new();
    for wording in wordings {
        match in_words(port, side, *wording) {
            Ok(taken) => return Ok(taken),
            Err(reason) if reasons.contains(&reason) => {}
            Err(reason) => reasons.push(reason),
        }
    }
    Err(reasons.join(" / "))
}

fn in_words(port: u16, side: Side, wording: Wording<'_>) -> Result<(Vec<Flow>, u64), String> {
    let (mut flows, mut types) = (Vec::new(), 0);
    for traffic in Traffic::ALL {
        let rule = Rule::new(traffic, side, wording);
        match rule.create(port) {
            Ok(flow) => {
                flows.push(flow);
                types |= rule.types();
            }
            Err(reason) => {
                // Half of the traffic by one side and half by both would be worse to understand than none.
                for flow in flows {
                    let _ = flow.destroy(port);
                }
                return Err(reason);
            }
        }
    }
    Ok((flows, types))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 40] = [0x6d; 40];
    const QUEUES: [u16; 3] = [0, 1, 2];

    fn pattern(rule: &Rule<'_>) -> Vec<u32> {
        // No addresses or ports are matched.
        let bare = |item: &rte_flow_item| item.spec.is_null() && item.last.is_null() && item.mask.is_null();
        assert!(rule.pattern.iter().all(bare));
        rule.pattern.iter().map(|item| item.type_).collect()
    }

    #[test]
    fn a_rule_takes_all_of_its_traffic() {
        let (eth, end) = (dpdk_sys::RTE_FLOW_ITEM_TYPE_ETH, dpdk_sys::RTE_FLOW_ITEM_TYPE_END);
        let (ipv4, ipv6) = (dpdk_sys::RTE_FLOW_ITEM_TYPE_IPV4, dpdk_sys::RTE_FLOW_ITEM_TYPE_IPV6);
        let (tcp, udp) = (dpdk_sys::RTE_FLOW_ITEM_TYPE_TCP, dpdk_sys::RTE_FLOW_ITEM_TYPE_UDP);
        let expected =
            [[eth, ipv4, tcp, end], [eth, ipv4, udp, end], [eth, ipv6, tcp, end], [eth, ipv6, udp, end]];
        for (traffic, expected) in Traffic::ALL.into_iter().zip(expected) {
            let rule = Rule::new(traffic, Side::Source, Wording::AsConfigured);
            assert_eq!(pattern(&rule), expected);
        }
        let attributes = attributes();
        assert_eq!((attributes.ingress(), attributes.egress(), attributes.transfer()), (1, 0, 0));
        assert_eq!((attributes.group, attributes.priority, attributes.reserved()), (0, 0, 0));
    }

    #[test]
    fn a_whole_rule_says_key_and_queues() {
        let wording = Wording::Whole { key: &KEY, queues: &QUEUES };
        let rule = Rule::new(Traffic::Udp4, Side::Destination, wording);
        let [action, end] = rule.actions();
        assert_eq!((action.type_, end.type_), (dpdk_sys::RTE_FLOW_ACTION_TYPE_RSS, 0));
        assert!(end.conf.is_null() && std::ptr::eq(action.conf.cast(), &rule.rss));
        let rss = &rule.rss;
        assert_eq!((rss.func, rss.level), (dpdk_sys::RTE_ETH_HASH_FUNCTION_TOEPLITZ, 0));
        assert_eq!((rss.key, rss.key_len), (KEY.as_ptr(), 40));
        assert_eq!((rss.queue, rss.queue_num), (QUEUES.as_ptr(), 3));
        assert_eq!(
            rss.types,
            dpdk_sys::DPDK_SYS_RSS_IPV4
                | dpdk_sys::DPDK_SYS_RSS_NONFRAG_IPV4_UDP
                | dpdk_sys::DPDK_SYS_RSS_L3_DST_ONLY
                | dpdk_sys::DPDK_SYS_RSS_L4_DST_ONLY
        );
    }

    #[test]
    fn a_rule_as_configured_says_only_what_is_hashed() {
        let rule = Rule::new(Traffic::Tcp6, Side::Source, Wording::AsConfigured);
        let rss = &rule.rss;
        assert!(rss.key.is_null() && rss.queue.is_null());
        assert_eq!((rss.key_len, rss.queue_num), (0, 0));
        assert_eq!(
            rss.types,
            dpdk_sys::DPDK_SYS_RSS_NONFRAG_IPV6_TCP
                | dpdk_sys::DPDK_SYS_RSS_L3_SRC_ONLY
                | dpdk_sys::DPDK_SYS_RSS_L4_SRC_ONLY
        );
    }

    #[test]
    fn a_refusal_is_in_the_drivers_words_or_dpdks() {
        let mut error = rte_flow_error::default();
        assert_eq!(reason(&error, -95), "Operation not supported");
        error.message = c"no RSS here".as_ptr();
        assert_eq!(reason(&error, -95), "no RSS here");
    }
}
