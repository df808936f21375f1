//! What can stand on ipvsadm's command line: commands, options, and which go together.

/// A command, in ipvsadm's own order, by which its table of options goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Add,
    Edit,
    Delete,
    Flush,
    List,
    AddServer,
    DeleteServer,
    EditServer,
    Set,
    StartDaemon,
    StopDaemon,
    Restore,
    Save,
    Zero,
}

impl Verb {
    /// Its name in ipvsadm's complaints.
    pub(super) fn name(self) -> &'static str {
        match self {
            Verb::Add => "add-service",
            Verb::Edit => "edit-service",
            Verb::Delete => "delete-service",
            Verb::Flush => "flush",
            Verb::List => "list",
            Verb::AddServer => "add-server",
            Verb::DeleteServer => "delete-server",
            Verb::EditServer => "edit-server",
            Verb::Set => "set",
            Verb::StartDaemon => "start-daemon",
            Verb::StopDaemon => "stop-daemon",
            Verb::Restore => "restore",
            Verb::Save => "save",
            Verb::Zero => "zero",
        }
    }
}

/// What is complained about by one name, though there may be several ways to write it. The order is ipvsadm's, which
/// decides what is complained about first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opt {
    Numeric,
    Connection,
    Service,
    Scheduler,
    Persistent,
    Netmask,
    Server,
    Forward,
    Weight,
    UpperThreshold,
    LowerThreshold,
    McastInterface,
    Timeout,
    Daemon,
    Stats,
    Rate,
    Thresholds,
    PersistentConn,
    NoSort,
    SyncId,
    Exact,
    OnePacket,
    PersistenceEngine,
    SchedFlags,
    McastGroup,
    McastPort,
    McastTtl,
    SyncMaxlen,
    TunInfo,
    TunType,
    TunPort,
    TunNocsum,
    TunCsum,
    TunRemcsum,
}

impl Opt {
    pub(super) const ALL: [Opt; 34] = [
        Opt::Numeric,
        Opt::Connection,
        Opt::Service,
        Opt::Scheduler,
        Opt::Persistent,
        Opt::Netmask,
        Opt::Server,
        Opt::Forward,
        Opt::Weight,
        Opt::UpperThreshold,
        Opt::LowerThreshold,
        Opt::McastInterface,
        Opt::Timeout,
        Opt::Daemon,
        Opt::Stats,
        Opt::Rate,
        Opt::Thresholds,
        Opt::PersistentConn,
        Opt::NoSort,
        Opt::SyncId,
        Opt::Exact,
        Opt::OnePacket,
        Opt::PersistenceEngine,
        Opt::SchedFlags,
        Opt::McastGroup,
        Opt::McastPort,
        Opt::McastTtl,
        Opt::SyncMaxlen,
        Opt::TunInfo,
        Opt::TunType,
        Opt::TunPort,
        Opt::TunNocsum,
        Opt::TunCsum,
        Opt::TunRemcsum,
    ];

    /// Its name in ipvsadm's complaints.
    pub(super) fn name(self) -> &'static str {
        match self {
            Opt::Numeric => "numeric",
            Opt::Connection => "connection",
            Opt::Service => "service-address",
            Opt::Scheduler => "scheduler",
            Opt::Persistent => "persistent",
            Opt::Netmask => "netmask",
            Opt::Server => "real-server",
            Opt::Forward => "forwarding-method",
            Opt::Weight => "weight",
            Opt::UpperThreshold => "u-threshold",
            Opt::LowerThreshold => "l-threshold",
            Opt::McastInterface => "mcast-interface",
            Opt::Timeout => "timeout",
            Opt::Daemon => "daemon",
            Opt::Stats => "stats",
            Opt::Rate => "rate",
            Opt::Thresholds => "thresholds",
            Opt::PersistentConn => "persistent-conn",
            Opt::NoSort => "nosort",
            Opt::SyncId => "syncid",
            Opt::Exact => "exact",
            Opt::OnePacket => "ops",
            Opt::PersistenceEngine => "pe",
            Opt::SchedFlags => "sched-flags",
            Opt::McastGroup => "mcast-group",
            Opt::McastPort => "mcast-port",
            Opt::McastTtl => "mcast-ttl",
            Opt::SyncMaxlen => "sync-maxlen",
            Opt::TunInfo => "tun-info",
            Opt::TunType => "tun-type",
            Opt::TunPort => "tun-port",
            Opt::TunNocsum => "tun-nocsum",
            Opt::TunCsum => "tun-csum",
            Opt::TunRemcsum => "tun-remcsum",
        }
    }
}

/// Which options were given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Given(u64);

impl Given {
    pub(super) fn has(self, opt: Opt) -> bool {
        self.0 & (1 << opt as u32) != 0
    }

    pub(super) fn has_any(self, opts: &[Opt]) -> bool {
        opts.iter().any(|opt| self.has(*opt))
    }

    /// Notes it; false where it was there already.
    pub(super) fn note(&mut self, opt: Opt) -> bool {
        let new = !self.has(opt);
        self.0 |= 1 << opt as u32;
        new
    }
}

/// Whether an option goes with a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// It must be there.
    Needed,
    /// It may be there.
    Allowed,
    /// It may be there unless another such option is.
    Exclusive,
    /// It must not be there.
    Illegal,
}

/// Whether `opt` goes with `verb`.
pub(super) fn rule(verb: Verb, opt: Opt) -> Rule {
    use Rule::{Allowed, Exclusive, Illegal, Needed};
    match (verb, opt) {
        (Verb::Add | Verb::Edit | Verb::Delete, Opt::Service) => Needed,
        (
            Verb::Add | Verb::Edit,
            Opt::Scheduler
            | Opt::Persistent
            | Opt::Netmask
            | Opt::OnePacket
            | Opt::PersistenceEngine
            | Opt::SchedFlags,
        ) => Allowed,
        (Verb::AddServer | Verb::EditServer | Verb::DeleteServer, Opt::Service | Opt::Server) => Needed,
        (
            Verb::AddServer | Verb::EditServer,
            Opt::Forward
            | Opt::Weight
            | Opt::UpperThreshold
            | Opt::LowerThreshold
            | Opt::TunType
            | Opt::TunPort
            | Opt::TunNocsum
            | Opt::TunCsum
            | Opt::TunRemcsum,
        ) => Allowed,
        (Verb::List, Opt::Connection | Opt::Service | Opt::Timeout | Opt::Daemon) => Exclusive,
        (
            Verb::List,
            Opt::Numeric
            | Opt::Stats
            | Opt::Rate
            | Opt::Thresholds
            | Opt::PersistentConn
            | Opt::NoSort
            | Opt::SyncId
            | Opt::Exact
            | Opt::TunInfo,
        ) => Allowed,
        (
            Verb::StartDaemon,
            Opt::McastInterface
            | Opt::SyncId
            | Opt::McastGroup
            | Opt::McastPort
            | Opt::McastTtl
            | Opt::SyncMaxlen,
        ) => Allowed,
        (Verb::StopDaemon, Opt::SyncId) => Allowed,
        (Verb::Save, Opt::Numeric) => Allowed,
        (Verb::Zero, Opt::Service) => Allowed,
        _ => Illegal,
    }
}

/// One way to write an option.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    pub(super) long: &'static str,
    pub(super) short: Option<u8>,
    pub(super) takes: Takes,
    pub(super) means: Means,
}

/// Whether a word goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    Nothing,
    Word,
    /// A word, unless what follows begins with a dash.
    OptionalWord,
}

/// What it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Means {
    /// A command, which must come first.
    Verb(Verb),
    Help,
    Version,
    /// A service's address, and its protocol by number.
    ServiceAddress(u8),
    ServiceMark,
    /// `-m`, `-i`, `-g`.
    Masquerading,
    Tunneling,
    Gatewaying,
    /// `-6`.
    Ipv6,
    /// `--sort`, which says nothing.
    Sort,
    Opt(Opt),
}

/// All of them.
pub(super) const WRITTEN: &[Written] = &[
    verb("add-service", b'A', Verb::Add),
    verb("edit-service", b'E', Verb::Edit),
    verb("delete-service", b'D', Verb::Delete),
    verb("clear", b'C', Verb::Flush),
    verb("list", b'L', Verb::List),
    verb("list", b'l', Verb::List),
    verb("zero", b'Z', Verb::Zero),
    verb("add-server", b'a', Verb::AddServer),
    verb("edit-server", b'e', Verb::EditServer),
    verb("delete-server", b'd', Verb::DeleteServer),
    long("set", Takes::Nothing, Means::Verb(Verb::Set)),
    short("help", b'h', Takes::Nothing, Means::Help),
    short("version", b'v', Takes::Nothing, Means::Version),
    verb("restore", b'R', Verb::Restore),
    verb("save", b'S', Verb::Save),
    long("start-daemon", Takes::Word, Means::Verb(Verb::StartDaemon)),
    long("stop-daemon", Takes::Word, Means::Verb(Verb::StopDaemon)),
    short("tcp-service", b't', Takes::Word, Means::ServiceAddress(6)),
    short("udp-service", b'u', Takes::Word, Means::ServiceAddress(17)),
    long("sctp-service", Takes::Word, Means::ServiceAddress(132)),
    short("fwmark-service", b'f', Takes::Word, Means::ServiceMark),
    short("scheduler", b's', Takes::Word, Means::Opt(Opt::Scheduler)),
    short("persistent", b'p', Takes::OptionalWord, Means::Opt(Opt::Persistent)),
    short("netmask", b'M', Takes::Word, Means::Opt(Opt::Netmask)),
    short("real-server", b'r', Takes::Word, Means::Opt(Opt::Server)),
    short("masquerading", b'm', Takes::Nothing, Means::Masquerading),
    short("ipip", b'i', Takes::Nothing, Means::Tunneling),
    short("gatewaying", b'g', Takes::Nothing, Means::Gatewaying),
    short("weight", b'w', Takes::Word, Means::Opt(Opt::Weight)),
    short("u-threshold", b'x', Takes::Word, Means::Opt(Opt::UpperThreshold)),
    short("l-threshold", b'y', Takes::Word, Means::Opt(Opt::LowerThreshold)),
    short("numeric", b'n', Takes::Nothing, Means::Opt(Opt::Numeric)),
    short("connection", b'c', Takes::Nothing, Means::Opt(Opt::Connection)),
    long("mcast-interface", Takes::Word, Means::Opt(Opt::McastInterface)),
    long("syncid", Takes::Word, Means::Opt(Opt::SyncId)),
    long("timeout", Takes::Nothing, Means::Opt(Opt::Timeout)),
    long("daemon", Takes::Nothing, Means::Opt(Opt::Daemon)),
    long("stats", Takes::Nothing, Means::Opt(Opt::Stats)),
    long("rate", Takes::Nothing, Means::Opt(Opt::Rate)),
    long("thresholds", Takes::Nothing, Means::Opt(Opt::Thresholds)),
    long("persistent-conn", Takes::Nothing, Means::Opt(Opt::PersistentConn)),
    long("nosort", Takes::Nothing, Means::Opt(Opt::NoSort)),
    long("sort", Takes::Nothing, Means::Sort),
    short("exact", b'X', Takes::Nothing, Means::Opt(Opt::Exact)),
    short("ipv6", b'6', Takes::Nothing, Means::Ipv6),
    short("ops", b'o', Takes::Nothing, Means::Opt(Opt::OnePacket)),
    long("pe", Takes::Word, Means::Opt(Opt::PersistenceEngine)),
    short("sched-flags", b'b', Takes::Word, Means::Opt(Opt::SchedFlags)),
    long("mcast-group", Takes::Word, Means::Opt(Opt::McastGroup)),
    long("mcast-port", Takes::Word, Means::Opt(Opt::McastPort)),
    long("mcast-ttl", Takes::Word, Means::Opt(Opt::McastTtl)),
    long("sync-maxlen", Takes::Word, Means::Opt(Opt::SyncMaxlen)),
    long("tun-info", Takes::Nothing, Means::Opt(Opt::TunInfo)),
    long("tun-type", Takes::Word, Means::Opt(Opt::TunType)),
    long("tun-port", Takes::Word, Means::Opt(Opt::TunPort)),
    long("tun-nocsum", Takes::Nothing, Means::Opt(Opt::TunNocsum)),
    long("tun-csum", Takes::Nothing, Means::Opt(Opt::TunCsum)),
    long("tun-remcsum", Takes::Nothing, Means::Opt(Opt::TunRemcsum)),
];

const fn verb(long: &'static str, short: u8, verb: Verb) -> Written {
    Written { long, short: Some(short), takes: Takes::Nothing, means: Means::Verb(verb) }
}

const fn short(long: &'static str, short: u8, takes: Takes, means: Means) -> Written {
    Written { long, short: Some(short), takes, means }
}

const fn long(long: &'static str, takes: Takes, means: Means) -> Written {
    Written { long, short: None, takes, means }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_option_has_its_own_bit() {
        let mut given = Given::default();
        for opt in Opt::ALL {
            assert!(given.note(opt), "{opt:?} shares its bit");
            assert!(!given.note(opt));
        }
    }

    #[test]
    fn no_letter_means_two_things() {
        let mut letters: Vec<u8> = WRITTEN.iter().filter_map(|written| written.short).collect();
        letters.sort_unstable();
        let all = letters.len();
        letters.dedup();
        assert_eq!(letters.len(), all);
    }
}
