//! A command line as ipvsadm understands it.

use std::net::{IpAddr, SocketAddr};

use crate::model::ServiceKey;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `-h`.
    Help,
    /// `-v`.
    Version,
    /// `-L`.
    List(Listing, Format),
    /// `-S`.
    Save(Format),
    /// `-R`.
    Restore,
    /// `-C`.
    Clear,
    /// `-A`.
    AddService(Service),
    /// `-E`.
    EditService(Service),
    /// `-D`.
    DeleteService(ServiceKey),
    /// `-Z`; of all services where none is named.
    Zero(Option<ServiceKey>),
    /// `-a`.
    AddServer(ServiceKey, Server),
    /// `-e`.
    EditServer(ServiceKey, Server),
    /// `-d`.
    DeleteServer(ServiceKey, SocketAddr),
    /// `--set`, in seconds; 0: as it was.
    SetTimeouts {
        /// Of an established TCP connection.
        tcp: u32,
        /// Of a TCP connection after a FIN.
        tcp_fin: u32,
        /// Of a UDP connection.
        udp: u32,
    },
    /// `--start-daemon`.
    StartDaemon(Daemon),
    /// `--stop-daemon`.
    StopDaemon(Daemon),
}

/// What `-L` lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listing {
    /// All services.
    Services,
    /// One service.
    Service(ServiceKey),
    /// `-c`.
    Connections,
    /// `--timeout`.
    Timeouts,
    /// `--daemon`.
    Daemons,
}

/// How it is listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Format {
    /// `-n`: addresses and ports as numbers.
    pub numeric: bool,
    /// `--stats`.
    pub stats: bool,
    /// `--rate`.
    pub rate: bool,
    /// `--thresholds`.
    pub thresholds: bool,
    /// `--persistent-conn`.
    pub persistent_conn: bool,
    /// `--nosort`.
    pub no_sort: bool,
    /// `--exact`.
    pub exact: bool,
    /// `--tun-info`.
    pub tun_info: bool,
}

/// A virtual service as `-A` and `-E` describe it: all of it, since what is left out has ipvsadm's default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// What names it.
    pub key: ServiceKey,
    /// `-s`.
    pub scheduler: String,
    /// `-b`.
    pub flags: Flags,
    /// `-p`, in seconds.
    pub persistent: Option<u32>,
    /// `-M`, which says something of persistent services only.
    pub netmask: Netmask,
    /// `--pe`.
    pub engine: Option<String>,
    /// `-o`.
    pub one_packet: bool,
}

/// A scheduler's flags by number: `sh-fallback` and `mh-fallback` are the first one, `sh-port` and `mh-port` the second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `flag-1`.
    pub first: bool,
    /// `flag-2`.
    pub second: bool,
    /// `flag-3`.
    pub third: bool,
}

/// Which bits of a client's address count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Netmask {
    /// Any bits of an IPv4 address.
    Mask(u32),
    /// So many of the first bits of an IPv6 address.
    Prefix(u32),
}

impl Netmask {
    /// How many of the first bits count, if it is the first ones that do.
    pub fn bits(self) -> Option<u8> {
        match self {
            Netmask::Mask(mask) if mask.leading_ones() == mask.count_ones() => {
                u8::try_from(mask.count_ones()).ok()
            }
            Netmask::Mask(_) => None,
            Netmask::Prefix(bits) => u8::try_from(bits).ok(),
        }
    }
}

/// A real server as `-a` and `-e` describe it: all of it, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// Address and port.
    pub address: SocketAddr,
    /// `-g`, `-i`, `-m`.
    pub forwarding: Forwarding,
    /// `-w`.
    pub weight: u32,
    /// `-x`.
    pub upper_threshold: u32,
    /// `-y`.
    pub lower_threshold: u32,
    /// `--tun-type` and what belongs to it.
    pub tunnel: TunnelOptions,
}

/// A forwarding method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forwarding {
    /// `-g`.
    #[default]
    Route,
    /// `-i`.
    Tunnel,
    /// `-m`.
    Masquerade,
}

/// A kind of tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TunnelType {
    /// `ipip`.
    #[default]
    Ipip,
    /// `gue`.
    Gue,
    /// `gre`.
    Gre,
}

/// A tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TunnelOptions {
    /// `--tun-type`.
    pub kind: TunnelType,
    /// `--tun-port`; 0: none.
    pub port: u16,
    /// `--tun-csum`.
    pub csum: bool,
    /// `--tun-remcsum`.
    pub remcsum: bool,
}

/// A synchronisation daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// `master`; `backup` where it is false.
    pub master: bool,
    /// `--mcast-interface`.
    pub interface: String,
    /// `--syncid`.
    pub sync_id: u8,
    /// `--sync-maxlen`; 0: not said.
    pub max_length: u16,
    /// `--mcast-group`.
    pub group: Option<IpAddr>,
    /// `--mcast-port`; 0: not said.
    pub port: u16,
    /// `--mcast-ttl`; 0: not said.
    pub ttl: u8,
}

/// Why a command line is not carried out: what is said on standard error, and the exit status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// What is said, without the newline at its end.
    pub text: String,
    /// The exit status.
    pub status: u8,
    /// Whether ipvsadm ends at once, or goes on with the next line of `-R`.
    pub ends: bool,
}

impl Complaint {
    /// What is wrong with the line as it was typed.
    pub(super) fn usage(text: impl Into<String>) -> Complaint {
        Complaint { text: text.into(), status: 2, ends: true }
    }

    /// Where to read how it is meant.
    pub(super) fn try_help(program: &str) -> Complaint {
        let text = format!("Try `{program} -h' or '{program} --help' for more information.");
        Complaint { text, status: 255, ends: true }
    }

    /// What popt, or a director, has against it.
    pub(super) fn refused(text: impl Into<String>) -> Complaint {
        Complaint { text: text.into(), status: 255, ends: false }
    }

    /// There is no director to ask, or none any more.
    pub(super) fn lost(text: impl Into<String>) -> Complaint {
        Complaint { text: text.into(), status: 2, ends: true }
    }

    /// What could not be listed.
    pub(super) fn listing(text: impl Into<String>) -> Complaint {
        Complaint { text: text.into(), status: 1, ends: true }
    }
}
