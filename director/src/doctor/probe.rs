//! What a device gave that was opened, beside what it was asked for.

use super::finding::{Finding, Gain};

const ABOUT: &str = "port";

/// A port as it was asked for, and as it came.
#[derive(Clone, Debug)]
pub struct Given {
    /// Its device.
    pub device: String,
    /// DPDK's driver.
    pub driver: String,
    /// Worker lcores, each of which wants a receive queue.
    pub lcores: u16,
    /// Receive queues that it has.
    pub rx_queues: u16,
    /// By what its packets are to be spread, in the configuration's words.
    pub spread_wanted: &'static str,
    /// By what they are.
    pub spread: &'static str,
    /// Descriptors for receiving and sending, asked for and given.
    pub descriptors: [(u16, u16); 2],
    /// MTU, asked for and given.
    pub mtu: [u16; 2],
    /// Whether the link is up, and at which speed in Mbit/s.
    pub link: (bool, Option<u32>),
}

impl Given {
    /// What that means.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let Given { device, driver, lcores, rx_queues, spread_wanted, spread, .. } = self;
        let mut findings = Vec::new();
        if rx_queues < lcores {
            findings.push(Finding::advice(
                ABOUT,
                Gain::Some,
                format!("{device} ({driver}) gave {rx_queues} receive queues for {lcores} lcores"),
                "lcores without a queue live on what others hand over, by software",
                format!("name {rx_queues} cpus in [lcores], or another device"),
            ));
        }
        if *lcores > 1 && *rx_queues > 1 && spread != spread_wanted {
            findings.push(Finding::advice(
                ABOUT,
                Gain::Some,
                format!("{device} ({driver}) spreads by {spread} where {spread_wanted} is wanted"),
                "packets that come to the wrong lcore are handed over, by software (wrong_lcore in directorctl stats)",
                "rss = \"symmetric\" in [[port]] where one side alone is refused; a NIC with rte_flow RSS (ice, i40e, mlx5)",
            ));
        }
        let [asked, given] = self.descriptors;
        if given.0 < asked.0 || given.1 < asked.1 {
            findings.push(Finding::advice(
                ABOUT,
                Gain::Little,
                format!(
                    "{device} gave {} and {} descriptors, {} and {} asked",
                    given.0, given.1, asked.0, asked.1
                ),
                "bursts that are longer are lost",
                format!("rx_descriptors = {} and tx_descriptors = {} in [[port]]", given.0, given.1),
            ));
        }
        if self.mtu[1] < self.mtu[0] {
            findings.push(Finding::advice(
                ABOUT,
                Gain::Some,
                format!("{device} has an MTU of {}, {} asked", self.mtu[1], self.mtu[0]),
                "longer packets are lost",
                format!("mtu = {} in [[port]]", self.mtu[1]),
            ));
        }
        let speed = self.link.1.map(|speed| format!(" at {speed} Mbit/s")).unwrap_or_default();
        let link = if self.link.0 { format!("link up{speed}") } else { "link down".to_owned() };
        let queues = if *rx_queues == 1 { "queue" } else { "queues" };
        let words =
            format!("{device} opens ({driver}): {rx_queues} receive {queues}, spread by {spread}, {link}");
        findings.push(Finding::good(ABOUT, words));
        findings
    }
}
