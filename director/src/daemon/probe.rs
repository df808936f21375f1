//! Opening ports to see what their devices give, and closing them again.

use control::config::Config;

use super::start::{StartError, eal_options, pool_config, port_config, rss_word};
use crate::doctor::{Finding, Given};
use crate::dpdk::{Eal, MbufPool, Port};
use crate::id::PortId;

/// Opens the ports of a configuration as a start does, without mirrors and without lcores, and closes them. Takes the
/// devices from whoever else wants them meanwhile.
///
/// # Errors
/// What would keep the director from starting.
pub fn probe(config: &Config) -> Result<Vec<Finding>, StartError> {
    let eal = Eal::init(&eal_options(config))?;
    let lcores = eal.workers();
    let pool = MbufPool::new(&eal, &pool_config(config, lcores))?;
    let mut findings = Vec::new();
    for (n, wanted) in config.ports.iter().enumerate() {
        let asked = port_config(wanted, lcores);
        let port = Port::open(&eal, PortId(n as u8), &wanted.device, &asked, &pool)?;
        let link = port.link();
        let given = Given {
            device: wanted.device.clone(),
            driver: port.driver().to_owned(),
            lcores: asked.rx_queues,
            rx_queues: port.rx_queues(),
            spread_wanted: asked.spread.word(),
            spread: rss_word(&port),
            descriptors: [(asked.rx_descriptors, asked.tx_descriptors), port.descriptors()],
            mtu: [wanted.mtu, port.mtu()],
            link: (link.up, link.speed_mbps),
        };
        findings.extend(given.findings());
    }
    Ok(findings)
}
