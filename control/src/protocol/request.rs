//! What a client may ask of a running director.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::capture::CaptureFilter;
use super::drain::default_deadline;
use super::explain::PacketSketch;
use super::options::{PersistenceChange, PersistenceOptions};
use super::strict::{strict_server, strict_service, strict_service_option};
use super::template::TemplateFilter;
use crate::model::{
    ForwardingMethod, Protocol, RealServer, Scheduler, SchedulerFlags, ServiceKey, SettingValue, Tunnel,
    Weight,
};

/// Connections in one page of `connection.list` when the request names no limit.
pub const DEFAULT_PAGE: u32 = 1_000;

/// Most connections in one page; a director answers a larger `limit` with this many.
pub const MAX_PAGE: u32 = 10_000;

/// One request. In JSON the variant is the value of `"request"`; the fields stand beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", deny_unknown_fields)]
pub enum Request {
    /// Adds a virtual service without real servers. Precondition: no service has this key, and there is room for one.
    #[serde(rename = "service.add")]
    ServiceAdd {
        /// What names the service.
        #[serde(deserialize_with = "strict_service")]
        service: ServiceKey,
        /// Defaults to `wlc`.
        #[serde(default)]
        scheduler: Scheduler,
        /// Defaults to none.
        #[serde(default)]
        flags: SchedulerFlags,
        /// Absent: not persistent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        persistence: Option<PersistenceOptions>,
        /// Defaults to false.
        #[serde(default)]
        one_packet: bool,
    },
    /// Changes the scheduler, its flags, persistence or one-packet scheduling; connections stay. Precondition: the
    /// service exists.
    #[serde(rename = "service.edit")]
    ServiceEdit {
        /// What names the service.
        #[serde(deserialize_with = "strict_service")]
        service: ServiceKey,
        /// The new scheduler; absent: as it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        scheduler: Option<Scheduler>,
        /// The new flags, all of them; absent: as they were.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        flags: Option<SchedulerFlags>,
        /// What becomes of the persistence; absent: as it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        persistence: Option<PersistenceChange>,
        /// The new one-packet scheduling; absent: as it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        one_packet: Option<bool>,
    },
    /// Deletes a service with its real servers. Precondition: the service exists.
    #[serde(rename = "service.delete")]
    ServiceDelete {
        /// What names the service.
        #[serde(deserialize_with = "strict_service")]
        service: ServiceKey,
    },
    /// Lists the services, their real servers and counters. No precondition.
    #[serde(rename = "service.list")]
    ServiceList {},
    /// Adds a real server to a service. Precondition: the service exists and has no real server at this address; with
    /// direct routing and tunnel the port equals the service's.
    #[serde(rename = "server.add")]
    ServerAdd {
        /// What names the service.
        #[serde(deserialize_with = "strict_service")]
        service: ServiceKey,
        /// The real server; `method` defaults to `dr`, `tunnel` to `ipip`, `weight` to 1, the thresholds to 0.
        #[serde(deserialize_with = "strict_server")]
        server: RealServer,
    },
    /// Changes weight, forwarding method, tunnel or thresholds of a real server. Precondition: the service has a real server at this
    /// address.
    #[serde(rename = "server.edit")]
    ServerEdit {
        /// What names the service.
        #[serde(deserialize_with = "strict_service")]
        service: ServiceKey,
        /// What names the real server within the service.
        address: SocketAddr,
        /// The new weight; absent: as it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        weight: Option<Weight>,
        /// The new forwarding method, for new connections; absent: as it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        method: Option<ForwardingMethod>,
        /// How packets are wrapped from now on; absent: as they were, unless the method is no longer tunnel.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tunnel: Option<Tunnel>,
        /// The new upper threshold; absent: as it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        upper_threshold: Option<u32>,
        /// The new lower threshold; absent: as it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lower_threshold: Option<u32>,
    },
    /// Takes a real server out of a service. Precondition: the service has a real server at this address.
    #[serde(rename = "server.delete")]
    ServerDelete {
        /// What names the service.
        #[serde(deserialize_with = "strict_service")]
        service: ServiceKey,
        /// What names the real server within the service.
        address: SocketAddr,
    },
    /// Gives a real server no new connections from now on, and takes it out once those that it has are gone or the deadline
    /// has come. One that is drained already has another plan. Precondition: the service has a real server at this address;
    /// the deadline is from 1 to [`crate::model::Timeouts::MAX_SECONDS`].
    #[serde(rename = "server.drain")]
    ServerDrain {
        /// What names the service.
        #[serde(deserialize_with = "strict_service")]
        service: ServiceKey,
        /// What names the real server within the service.
        address: SocketAddr,
        /// After how many seconds it ends whatever is left; defaults to [`super::DEFAULT_DEADLINE`].
        #[serde(default = "default_deadline")]
        deadline: u32,
        /// Leaves it in the service at the end, with weight 0; defaults to false.
        #[serde(default)]
        keep: bool,
        /// Waits for active connections alone; defaults to false.
        #[serde(default)]
        active_only: bool,
    },
    /// Lists drains, those that go on and those that have ended lately. No precondition.
    #[serde(rename = "server.drain.status")]
    ServerDrainStatus {
        /// Of this service alone; absent: of all.
        #[serde(
            default,
            skip_serializing_if = "Option::is_none",
            deserialize_with = "strict_service_option"
        )]
        service: Option<ServiceKey>,
        /// Of the real server at this address alone; absent: of all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<SocketAddr>,
    },
    /// Ends a drain and gives the real server its weight back. Precondition: it is drained.
    #[serde(rename = "server.drain.cancel")]
    ServerDrainCancel {
        /// What names the service.
        #[serde(deserialize_with = "strict_service")]
        service: ServiceKey,
        /// What names the real server within the service.
        address: SocketAddr,
    },
    /// Lists connections, one page per request. Precondition: `cursor`, if given, is the `next` of an earlier page of
    /// this director.
    #[serde(rename = "connection.list")]
    ConnectionList {
        /// Which connections; absent: all.
        #[serde(default)]
        filter: ConnectionFilter,
        /// Where to go on; absent: at the beginning.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cursor: Option<String>,
        /// Most connections in the page; absent: [`DEFAULT_PAGE`], at most [`MAX_PAGE`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<u32>,
    },
    /// Lists persistence templates, one page per request. Precondition: `cursor`, if given, is the `next` of an earlier
    /// page of this director.
    #[serde(rename = "template.list")]
    TemplateList {
        /// Which templates; absent: all.
        #[serde(default)]
        filter: TemplateFilter,
        /// Where to go on; absent: at the beginning.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cursor: Option<String>,
        /// Most templates in the page; absent: [`DEFAULT_PAGE`], at most [`MAX_PAGE`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<u32>,
    },
    /// What is set of the whole director. No precondition.
    #[serde(rename = "settings")]
    Settings {},
    /// Sets some of it, all or nothing. Precondition: every name is a setting's and can have its value.
    #[serde(rename = "settings.set")]
    SettingsSet {
        /// The new values by name; those left out stay.
        settings: BTreeMap<String, SettingValue>,
    },
    /// When connections time out. No precondition.
    #[serde(rename = "timeouts")]
    Timeouts {},
    /// Changes timeouts; each counts for a connection from its next packet on. Precondition: they are from 1 to
    /// [`crate::model::Timeouts::MAX_SECONDS`].
    #[serde(rename = "timeouts.set")]
    TimeoutsSet {
        /// An established TCP connection without packets, in seconds; absent: as it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tcp: Option<u32>,
        /// A TCP connection after the first FIN, in seconds; absent: as it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tcp_fin: Option<u32>,
        /// A UDP connection without packets, in seconds; absent: as it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        udp: Option<u32>,
    },
    /// Counters of lcores, ports and the slow path. No precondition.
    #[serde(rename = "stats")]
    Stats {},
    /// Lets the counters of a service and its real servers begin at nothing, or those of all services. Precondition:
    /// the service exists, if one is named.
    #[serde(rename = "stats.zero")]
    StatsZero {
        /// What names the service; absent: all of them.
        #[serde(
            default,
            skip_serializing_if = "Option::is_none",
            deserialize_with = "strict_service_option"
        )]
        service: Option<ServiceKey>,
    },
    /// Rates of services and their real servers. No precondition.
    #[serde(rename = "rates")]
    Rates {},
    /// Every reason that `stats` counts packets by. No precondition.
    #[serde(rename = "reasons")]
    Reasons {},
    /// Latency the director adds to packets. No precondition.
    #[serde(rename = "latency")]
    Latency {},
    /// All that was measured of that latency, as histograms. No precondition.
    #[serde(rename = "latency.histograms")]
    LatencyHistograms {},
    /// Health checks of real servers and what follows from them. No precondition.
    #[serde(rename = "health")]
    Health {
        /// Only real servers that fail or do not serve with all their weight; defaults to false.
        #[serde(default)]
        failing: bool,
    },
    /// Makes what runs into what a configuration says, all of it or nothing. Precondition: the text is right, what cannot
    /// change while the director runs is as it was at the start, and no configuration waits to be confirmed.
    #[serde(rename = "config.apply")]
    ConfigApply {
        /// The text of the configuration.
        text: String,
        /// Where it comes from, for messages: the name of its file.
        source: String,
        /// In how many seconds it is taken back unless it is confirmed, 1 to 86400; absent: it stays.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        confirm_within: Option<u32>,
    },
    /// Lets the configuration that waits to be confirmed stay. Precondition: there is one.
    #[serde(rename = "config.confirm")]
    ConfigConfirm {},
    /// Goes back to a configuration that ran before. Precondition: it is kept.
    #[serde(rename = "config.rollback")]
    ConfigRollback {
        /// Its number; absent: what ran before the one that was applied last, which need not be confirmed yet.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<u64>,
    },
    /// The configurations that ran. No precondition.
    #[serde(rename = "config.history")]
    ConfigHistory {},
    /// What a configuration would change; without a text, what was changed by hand since one was applied. Precondition:
    /// the text is right.
    #[serde(rename = "config.diff")]
    ConfigDiff {
        /// The text of the configuration; absent: the one that was applied last is compared with what runs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        /// Where it comes from, for messages.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<String>,
    },
    /// What would become of a packet, and why; nothing is changed. Precondition: the packet's addresses are of one version
    /// of IP, and its port, if given, is one of the director's.
    #[serde(rename = "explain")]
    Explain {
        /// The packet.
        packet: PacketSketch,
    },
    /// Begins to capture packets. Precondition: no capture runs, and its bounds can be kept: `count` is at least 1,
    /// `seconds` from 1 to [`super::MAX_CAPTURE_SECONDS`], `snaplen` from [`super::MIN_SNAPLEN`] to [`super::MAX_SNAPLEN`].
    #[serde(rename = "capture.start")]
    CaptureStart {
        /// Which packets; absent: all.
        #[serde(default)]
        filter: CaptureFilter,
        /// How many packets; absent: until it is stopped.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        count: Option<u64>,
        /// For how many seconds; absent: until it is stopped.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seconds: Option<u32>,
        /// How many bytes of each frame; absent: [`super::MAX_SNAPLEN`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        snaplen: Option<u32>,
    },
    /// Packets that were captured since the last page. Precondition: the capture runs, or has ended with packets to read.
    #[serde(rename = "capture.read")]
    CaptureRead {
        /// The number of the capture.
        capture: u64,
    },
    /// Ends a capture; what it has captured can still be read. Precondition: as of `capture.read`.
    #[serde(rename = "capture.stop")]
    CaptureStop {
        /// The number of the capture.
        capture: u64,
    },
    /// Versions of the director, of DPDK and of this protocol. No precondition.
    #[serde(rename = "version")]
    Version {},
}

impl Request {
    /// Every value `"request"` may have.
    pub const NAMES: [&'static str; 33] = [
        "service.add",
        "service.edit",
        "service.delete",
        "service.list",
        "server.add",
        "server.edit",
        "server.delete",
        "server.drain",
        "server.drain.status",
        "server.drain.cancel",
        "connection.list",
        "template.list",
        "settings",
        "settings.set",
        "timeouts",
        "timeouts.set",
        "stats",
        "stats.zero",
        "rates",
        "reasons",
        "latency",
        "latency.histograms",
        "health",
        "config.apply",
        "config.confirm",
        "config.rollback",
        "config.history",
        "config.diff",
        "explain",
        "capture.start",
        "capture.read",
        "capture.stop",
        "version",
    ];

    /// The value of `"request"`.
    pub fn name(&self) -> &'static str {
        match self {
            Request::ServiceAdd { .. } => "service.add",
            Request::ServiceEdit { .. } => "service.edit",
            Request::ServiceDelete { .. } => "service.delete",
            Request::ServiceList {} => "service.list",
            Request::ServerAdd { .. } => "server.add",
            Request::ServerEdit { .. } => "server.edit",
            Request::ServerDelete { .. } => "server.delete",
            Request::ServerDrain { .. } => "server.drain",
            Request::ServerDrainStatus { .. } => "server.drain.status",
            Request::ServerDrainCancel { .. } => "server.drain.cancel",
            Request::ConnectionList { .. } => "connection.list",
            Request::TemplateList { .. } => "template.list",
            Request::Settings {} => "settings",
            Request::SettingsSet { .. } => "settings.set",
            Request::Timeouts {} => "timeouts",
            Request::TimeoutsSet { .. } => "timeouts.set",
            Request::Stats {} => "stats",
            Request::StatsZero { .. } => "stats.zero",
            Request::Rates {} => "rates",
            Request::Reasons {} => "reasons",
            Request::Latency {} => "latency",
            Request::LatencyHistograms {} => "latency.histograms",
            Request::Health { .. } => "health",
            Request::ConfigApply { .. } => "config.apply",
            Request::ConfigConfirm {} => "config.confirm",
            Request::ConfigRollback { .. } => "config.rollback",
            Request::ConfigHistory {} => "config.history",
            Request::ConfigDiff { .. } => "config.diff",
            Request::Explain { .. } => "explain",
            Request::CaptureStart { .. } => "capture.start",
            Request::CaptureRead { .. } => "capture.read",
            Request::CaptureStop { .. } => "capture.stop",
            Request::Version {} => "version",
        }
    }

    /// Whether carrying it out changes what is balanced, or shows what clients and real servers say to each other; such
    /// requests are for root and the daemon's own user.
    pub fn changes(&self) -> bool {
        match self {
            Request::ServiceAdd { .. }
            | Request::ServiceEdit { .. }
            | Request::ServiceDelete { .. }
            | Request::ServerAdd { .. }
            | Request::ServerEdit { .. }
            | Request::ServerDelete { .. }
            | Request::ServerDrain { .. }
            | Request::ServerDrainCancel { .. }
            | Request::SettingsSet { .. }
            | Request::TimeoutsSet { .. }
            | Request::StatsZero { .. }
            | Request::ConfigApply { .. }
            | Request::ConfigConfirm {}
            | Request::ConfigRollback { .. }
            | Request::CaptureStart { .. }
            | Request::CaptureRead { .. }
            | Request::CaptureStop { .. } => true,
            Request::ServiceList {}
            | Request::ServerDrainStatus { .. }
            | Request::ConnectionList { .. }
            | Request::TemplateList { .. }
            | Request::Settings {}
            | Request::Timeouts {}
            | Request::Stats {}
            | Request::Rates {}
            | Request::Reasons {}
            | Request::Latency {}
            | Request::LatencyHistograms {}
            | Request::Health { .. }
            | Request::ConfigHistory {}
            | Request::ConfigDiff { .. }
            | Request::Explain { .. }
            | Request::Version {} => false,
        }
    }
}

/// Which connections `connection.list` is about: those that agree with every field present.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectionFilter {
    /// Transport protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Virtual service.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "strict_service_option")]
    pub service: Option<ServiceKey>,
    /// Address and port of the real server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<SocketAddr>,
    /// Address of the client, whatever its port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// State by the name that `connection.list` shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}
