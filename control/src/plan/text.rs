//! Differences in words for people.

use std::fmt;

use super::{Difference, Fate, KeyChange, Moves, ServerChange, ServiceChange};

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fate::Added => "added",
            Fate::Removed => "removed",
            Fate::Changed => "changed",
        })
    }
}

/// `weight 1 -> 4`; of what comes or goes the value alone.
impl fmt::Display for KeyChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let KeyChange { key, from, to } = self;
        match (from, to) {
            (Some(from), Some(to)) => write!(f, "{key} {from} -> {to}"),
            (None, Some(to)) => write!(f, "{key} none -> {to}"),
            (Some(from), None) => write!(f, "{key} {from} -> none"),
            (None, None) => f.write_str(key),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.keys.iter().try_for_each(|key| writeln!(f, "{key}"))?;
        self.services.iter().try_for_each(|service| service.fmt(f))
    }
}

impl fmt::Display for ServiceChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ServiceChange { service, change, keys, servers, moves } = self;
        write!(f, "service {service} {change}")?;
        if *change == Fate::Changed {
            writeln!(f)?;
            keys.iter().try_for_each(|key| writeln!(f, "  {key}"))?;
        } else {
            values(f, keys)?;
            writeln!(f)?;
        }
        servers.iter().try_for_each(|server| server.fmt(f))?;
        moves.iter().filter(|_| *change != Fate::Added).try_for_each(|moves| moves.fmt(f))
    }
}

impl fmt::Display for ServerChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ServerChange { address, change, keys, connections } = self;
        write!(f, "  real server {address} {change}")?;
        if *change == Fate::Changed {
            let words: Vec<String> = keys.iter().map(ToString::to_string).collect();
            write!(f, ": {}", words.join(", "))?;
        } else {
            values(f, keys)?;
        }
        if let Some(connections) = connections.filter(|_| *change == Fate::Removed) {
            write!(f, "; it has {}", counted(connections, "connection"))?;
        }
        writeln!(f)
    }
}

/// The values of what comes or goes: `: scheduler rr, one_packet true`.
fn values(f: &mut fmt::Formatter<'_>, keys: &[KeyChange]) -> fmt::Result {
    let word = |KeyChange { key, from, to }: &KeyChange| {
        format!("{key} {}", to.as_deref().or(from.as_deref()).unwrap_or_default())
    };
    let words: Vec<String> = keys.iter().map(word).collect();
    if words.is_empty() { Ok(()) } else { write!(f, ": {}", words.join(", ")) }
}

impl fmt::Display for Moves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Moves { connections, lose_server, clients_per_mille, new_per_mille } = self;
        writeln!(
            f,
            "  moves: {lose_server} of {} lose their real server",
            counted(*connections, "connection")
        )?;
        if let Some(share) = clients_per_mille {
            writeln!(
                f,
                "  moves: {} of all clients would have another real server, or none",
                percent(*share)
            )?;
        }
        if let Some(share) = new_per_mille {
            writeln!(
                f,
                "  moves: {} of new connections go to another real server than before",
                percent(*share)
            )?;
        }
        Ok(())
    }
}

fn percent(per_mille: u16) -> String {
    format!("{}.{} %", per_mille / 10, per_mille % 10)
}

fn counted(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

impl Difference {
    /// In one line: `1 service changed, 2 added, 3 keys`.
    pub fn summary(&self) -> String {
        let of = |fate| self.services.iter().filter(|service| service.change == fate).count() as u64;
        let mut words: Vec<String> = Vec::new();
        for fate in [Fate::Added, Fate::Removed, Fate::Changed] {
            let count = of(fate);
            if count > 0 {
                words.push(format!("{} {fate}", counted(count, "service")));
            }
        }
        if !self.keys.is_empty() {
            words.push(format!("{} of the director changed", counted(self.keys.len() as u64, "key")));
        }
        if words.is_empty() { "nothing changed".to_owned() } else { words.join(", ") }
    }
}
