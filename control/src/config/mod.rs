//! The configuration file: TOML as typed, checked as a whole, and what it means.
//!
//! Reading goes on after an error, so that the operator sees everything that is wrong at once.

mod checks;
mod device;
mod errors;
pub(crate) mod keys;
mod marks;
mod number;
mod passive;
mod plan;
mod policy;
mod raw;
mod raw_check;
mod services;
mod validate;
mod walk;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::DeTable;

pub use device::{Mirror, Port, PortDevice, Rss};
pub use errors::{ConfigError, ConfigErrors, Position};

use crate::health::Policy;
use crate::model::{Limits, MarkRule, Model, ServiceKey, Settings, Timeouts};
use errors::{Complaints, Site};

/// Where the control socket is unless the configuration says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/director/director.sock";

/// Where configurations that ran are kept unless the configuration says otherwise.
pub const DEFAULT_HISTORY: &str = "/var/lib/director/history";

/// A configuration that is right by itself. Whether the machine has the devices, CPUs and memory that it names
/// shows at start.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The Unix socket that `directorctl` talks to.
    pub socket: PathBuf,
    /// The directory where configurations that ran are kept.
    pub history: PathBuf,
    /// DPDK's memory and arguments.
    pub dpdk: Dpdk,
    /// The worker lcores.
    pub lcores: Lcores,
    /// The connection tables.
    pub connections: Connections,
    /// How many services and servers there can be.
    pub limits: Limits,
    /// When connections time out.
    pub timeouts: Timeouts,
    /// What is set of the whole director.
    pub settings: Settings,
    /// TCP ports of FTP's control connections that are read along where they go by NAT, at most eight.
    pub ftp_ports: Vec<u16>,
    /// The ports, at least one, in the order of the file.
    pub ports: Vec<Port>,
    /// Which packets get which mark; the first rule that fits counts.
    pub marks: Vec<MarkRule>,
    /// The services that are balanced from the start.
    pub model: Model,
    /// What is checked of real servers, by virtual service; services without checks are not in it.
    pub health: BTreeMap<ServiceKey, Arc<Policy>>,
}

/// DPDK's memory and arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dpdk {
    /// Whether DPDK's memory is in hugepages.
    pub hugepages: Hugepages,
    /// Megabytes for the EAL (`-m`) when there are no hugepages.
    pub memory_mb: u32,
    /// Mbufs in the pool; none: as many as ports and queues need.
    pub mbufs: Option<u32>,
    /// Appended to the EAL's command line.
    pub eal_args: Vec<String>,
}

impl Default for Dpdk {
    fn default() -> Self {
        Dpdk { hugepages: Hugepages::default(), memory_mb: 512, mbufs: None, eal_args: Vec::new() }
    }
}

/// Whether DPDK's memory is in hugepages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hugepages {
    /// If some are free.
    #[default]
    Auto,
    /// Always; no start without.
    Yes,
    /// Never (`--no-huge`).
    No,
}

/// The worker lcores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lcores {
    /// One worker for each, pinned to that CPU; none: one worker on the last CPU that we may run on.
    pub cpus: Option<Vec<u32>>,
    /// What a worker does when no packets come.
    pub idle: Idle,
}

/// What a worker does when no packets come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Idle {
    /// Poll if any port is a PCI device, else sleep.
    #[default]
    Auto,
    /// Poll on.
    Poll,
    /// Sleep a little.
    Sleep,
}

/// The connection tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// Connections of IPv4 per lcore; their memory is taken at start.
    pub capacity: u32,
    /// Connections of IPv6 per lcore.
    pub ipv6_capacity: u32,
    /// Persistence templates of all lcores together.
    pub templates: u32,
}

impl Default for Connections {
    fn default() -> Self {
        Connections { capacity: 1_000_000, ipv6_capacity: 1_000_000, templates: 65_536 }
    }
}

impl Config {
    /// Understands the text of a configuration file; `file` is its name in error messages.
    ///
    /// # Errors
    /// Everything that is wrong with it; of a text that is not TOML, where the syntax breaks first.
    pub fn parse(text: &str, file: &str) -> Result<Config, ConfigErrors> {
        let mut complaints = Complaints::new(text, file);
        let config = match DeTable::parse(text) {
            Ok(tree) => {
                let root = walk::Table::root(&tree, &mut complaints);
                let raw = raw::RawConfig::read(&root, &mut complaints);
                Some(validate::config(&raw, &mut complaints))
            }
            Err(error) => {
                let offset = error.span().map_or(0, |span| span.start);
                let site = Site { offset, key: String::new() };
                complaints.add(&site, format!("this is not TOML: {}", error.message()), "correct the syntax");
                None
            }
        };
        match (complaints.finish(), config) {
            (None, Some(config)) => Ok(config),
            (Some(errors), _) => Err(errors),
            (None, None) => unreachable!("a text without a tree has been complained of"),
        }
    }

    /// Reads and understands a configuration file.
    ///
    /// # Errors
    /// The file cannot be read, or everything that is wrong with it.
    pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
        Config::parse(&Config::read(path)?, &path.display().to_string())
    }

    /// Reads a configuration file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(path: &Path) -> Result<String, ConfigErrors> {
        let file = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(text),
            Err(error) => Err(ConfigErrors::one(ConfigError {
                file,
                position: None,
                key: String::new(),
                reason: format!("cannot read the configuration: {error}"),
                remedy: "give the path of a readable UTF-8 text file with --config".to_owned(),
            })),
        }
    }
}

#[cfg(test)]
mod tests;
