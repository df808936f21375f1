//! Services and real servers as keys of the configuration with their values in words.

use super::KeyChange;
use super::check::words;
use crate::health::{Passive, Policy};
use crate::model::{
    ForwardingMethod, MarkRule, Persistence, RealServer, Service, Settings, Thresholds, Timeouts,
};

/// A key with its value.
pub(super) struct Key {
    pub(super) key: String,
    pub(super) value: String,
    /// It need not be said.
    is_default: bool,
}

pub(super) fn key(key: impl Into<String>, value: impl ToString, is_default: bool) -> Key {
    Key { key: key.into(), value: value.to_string(), is_default }
}

/// What differs between two lists of keys.
pub(super) fn differing(before: &[Key], after: &[Key]) -> Vec<KeyChange> {
    let value =
        |list: &[Key], wanted: &str| list.iter().find(|key| key.key == wanted).map(|key| key.value.clone());
    let gone = before.iter().filter(|key| value(after, &key.key).is_none());
    let changes = gone.chain(after).map(|Key { key, .. }| KeyChange {
        key: key.clone(),
        from: value(before, key),
        to: value(after, key),
    });
    changes.filter(|change| change.from != change.to).collect()
}

/// Those of something that comes.
pub(super) fn coming(keys: Vec<Key>) -> Vec<KeyChange> {
    let said = keys.into_iter().filter(|key| !key.is_default);
    said.map(|Key { key, value, .. }| KeyChange { key, from: None, to: Some(value) }).collect()
}

/// Those of something that goes.
pub(super) fn going(keys: Vec<Key>) -> Vec<KeyChange> {
    let turned = |change: KeyChange| KeyChange { from: change.to, to: None, ..change };
    coming(keys).into_iter().map(turned).collect()
}

/// What a service says of itself, its health included, its real servers not.
pub(super) fn of_service(service: &Service, policy: Option<&Policy>) -> Vec<Key> {
    let Service { key: _, scheduler, flags, persistence, one_packet, servers: _ } = service;
    let mut keys = vec![
        key("scheduler", scheduler, false),
        key("fallback", flags.fallback, !flags.fallback),
        key("hash_port", flags.port, !flags.port),
        key("one_packet", one_packet, !one_packet),
    ];
    if let Some(Persistence { timeout, granularity, engine }) = persistence {
        keys.push(key("persistence_timeout", timeout.as_secs(), false));
        keys.push(key("persistence_granularity", granularity, false));
        keys.push(key("persistence_engine", engine, engine.is_none()));
    }
    keys.extend(policy.into_iter().flat_map(of_policy));
    keys
}

/// What is checked, and what follows.
fn of_policy(policy: &Policy) -> Vec<Key> {
    let default = Policy::default();
    let Policy { checks, own, passive, on_failure, slow_start, quorum, hysteresis, sorry_server, max_out } =
        policy;
    let mut keys = vec![
        key("on_failure", on_failure.word(), *on_failure == default.on_failure),
        key("slow_start", slow_start.as_secs_f64(), *slow_start == default.slow_start),
        key("quorum", quorum, *quorum == default.quorum),
        key("hysteresis", hysteresis, *hysteresis == default.hysteresis),
        key("max_out", max_out, *max_out == default.max_out),
    ];
    if let Some(server) = sorry_server {
        keys.push(key("sorry_server", server.address, false));
        keys.push(key("sorry_server_method", server.method, false));
    }
    keys.extend(
        checks.iter().enumerate().map(|(at, check)| key(format!("check[{at}]"), words(check), false)),
    );
    if let Some(Passive { unanswered, window, hold }) = passive {
        keys.push(key("passive.unanswered", unanswered, false));
        keys.push(key("passive.window", window.as_secs_f64(), false));
        keys.push(key("passive.hold", hold.as_secs_f64(), false));
    }
    for (server, checks) in own {
        let all: Vec<String> = checks.iter().map(|check| words(check)).collect();
        let all = if all.is_empty() { "none".to_owned() } else { all.join("; ") };
        keys.push(key(format!("check of {server}"), all, false));
    }
    keys
}

/// What is said of a real server.
pub(super) fn of_server(server: &RealServer) -> Vec<Key> {
    let RealServer { address: _, method, tunnel, weight, thresholds: Thresholds { upper, lower } } = server;
    let mut keys = vec![key("method", method, false)];
    if *method == ForwardingMethod::Tunnel {
        keys.push(key("tunnel", tunnel, false));
    }
    keys.push(key("weight", weight, false));
    keys.push(key("upper_threshold", upper, *upper == 0));
    keys.push(key("lower_threshold", lower, *lower == 0));
    keys
}

/// What is set of the whole director.
pub(super) fn of_director(settings: Settings, timeouts: Timeouts) -> Vec<Key> {
    let Timeouts { tcp, tcp_fin, udp } = timeouts;
    let timeouts = [("tcp", tcp), ("tcp_fin", tcp_fin), ("udp", udp)];
    let timeouts = timeouts.map(|(name, value)| key(format!("timeouts.{name}"), value.as_secs(), false));
    let set = Settings::NAMES.into_iter();
    let set = set.filter_map(|name| Some(key(format!("settings.{name}"), settings.get(name)?, false)));
    timeouts.into_iter().chain(set).collect()
}

/// Rules for marks that come and go. Their order counts, so that one that moves goes at one place and comes at another.
pub(super) fn of_marks(before: &[MarkRule], after: &[MarkRule]) -> Vec<KeyChange> {
    // The longest list that is part of both, rule by rule: of what is left from places on.
    let mut common = vec![vec![0usize; after.len() + 1]; before.len() + 1];
    for (b, old) in before.iter().enumerate().rev() {
        for (a, new) in after.iter().enumerate().rev() {
            common[b][a] =
                if old == new { common[b + 1][a + 1] + 1 } else { common[b + 1][a].max(common[b][a + 1]) };
        }
    }
    let (mut changes, mut b, mut a) = (Vec::new(), 0, 0);
    while b < before.len() || a < after.len() {
        if b < before.len() && a < after.len() && before[b] == after[a] {
            (b, a) = (b + 1, a + 1);
        } else if a == after.len() || (b < before.len() && common[b + 1][a] >= common[b][a + 1]) {
            let key = format!("mark[{b}]");
            changes.push(KeyChange { key, from: Some(before[b].to_string()), to: None });
            b += 1;
        } else {
            let key = format!("mark[{a}]");
            changes.push(KeyChange { key, from: None, to: Some(after[a].to_string()) });
            a += 1;
        }
    }
    changes
}
