//! Hugepages: sizes, how many are free, and where.

use control::config::Hugepages;

use super::facts::Pages;
use super::finding::{Finding, Gain};
use super::{Case, list};

const ABOUT: &str = "hugepages";
const COSTS: &str = "a TLB miss for nearly every mbuf and, where the kernel has no transparent ones, for every connection: \
                     some 10 % to 30 % of the packets";

pub(super) fn check(case: &Case<'_>) -> Vec<Finding> {
    let pages = &case.facts.hugepages;
    let memory = u64::from(case.config.dpdk.memory_mb);
    let wanted = memory + (case.tables() >> 20);
    let free: u64 = pages.iter().map(Pages::free_mb).sum();
    let sizes = list(pages.iter().map(|p| format!("{} of {} free with {}", p.free, p.total, size(p.size))));
    let mut findings = Vec::new();
    match case.config.dpdk.hugepages {
        Hugepages::Yes if free == 0 => {
            let says = format!("hugepages = \"yes\" in [dpdk], and none is free ({})", or_none(&sizes));
            findings.push(Finding::obstacle(ABOUT, says, reserve(case, wanted)));
        }
        Hugepages::No => findings.push(Finding::advice(
            ABOUT,
            Gain::Some,
            "the configuration does without (hugepages = \"no\" in [dpdk])",
            COSTS,
            format!("{}, and hugepages = \"auto\" in [dpdk]", reserve(case, wanted)),
        )),
        Hugepages::Auto if free < memory || free == 0 => findings.push(Finding::advice(
            ABOUT,
            Gain::Some,
            format!("{free} MB are free, and {memory} wanted by memory_mb: ordinary memory will be used"),
            COSTS,
            reserve(case, wanted),
        )),
        _ if free < wanted => findings.push(Finding::advice(
            ABOUT,
            Gain::Some,
            format!("{free} MB are free; with the tables of connections {wanted} would be used"),
            "the tables that find no room are in ordinary memory",
            reserve(case, wanted),
        )),
        _ => findings.push(Finding::good(ABOUT, format!("{sizes}; {wanted} MB are wanted"))),
    }
    if case.config.dpdk.hugepages != Hugepages::No && free > 0 {
        findings.extend(nodes(case));
    }
    findings
}

/// Those of the nodes that worker lcores are on.
fn nodes(case: &Case<'_>) -> Vec<Finding> {
    let facts = case.facts;
    let mut wanted: Vec<u32> = case.workers.iter().filter_map(|cpu| facts.node_of(*cpu)).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let empty = wanted.into_iter().filter(|node| {
        let pages = facts.nodes.get(node).map(|node| &node.hugepages);
        pages.is_some_and(|pages| !pages.is_empty() && pages.iter().all(|pages| pages.free == 0))
    });
    let advice = |node| {
        let size = facts.default_hugepage.unwrap_or(2048);
        let file = format!("/sys/devices/system/node/node{node}/hugepages/hugepages-{size}kB/nr_hugepages");
        let pages = (u64::from(case.config.dpdk.memory_mb) * 1024).div_ceil(size.max(1));
        Finding::advice(
            ABOUT,
            Gain::Some,
            format!("none is free on NUMA node {node}, where worker lcores are"),
            "memory on the other node: each cache miss takes half as long again, or twice as long",
            format!("echo {pages} > {file}"),
        )
    };
    empty.map(advice).collect()
}

fn reserve(case: &Case<'_>, megabytes: u64) -> String {
    let size = case.facts.default_hugepage.unwrap_or(2048).max(1);
    format!("sysctl -w vm.nr_hugepages={}", (megabytes * 1024).div_ceil(size))
}

fn size(kilobytes: u64) -> String {
    match kilobytes {
        k if k >= 1 << 20 && k % (1 << 20) == 0 => format!("{} GB", k >> 20),
        k if k >= 1024 => format!("{} MB", k >> 10),
        k => format!("{k} kB"),
    }
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "this kernel has none" } else { text }
}
