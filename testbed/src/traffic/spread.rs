//! What the schedulers promise about the spread of connections, as checks on counts.
//!
//! Each check returns the reason why a spread breaks the promise, in one sentence with the numbers.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::Counts;
use crate::ensure;
use crate::error::Result;

/// The real servers that may be chosen, with their weights. Weight 0 means that nothing may come.
pub type Weights = [(String, u64)];

/// `rr`: any run of new connections is spread equally, but for one.
///
/// # Errors
/// When two counts differ by more, or a real server of weight 0 or an unknown one was chosen.
pub fn round_robin(counts: &Counts, weights: &Weights) -> Result<()> {
    only_available(counts, weights)?;
    let of = available(counts, weights);
    let (least, most) = (of.iter().map(|s| s.1).min(), of.iter().map(|s| s.1).max());
    ensure!(
        most.unwrap_or(0) - least.unwrap_or(0) <= 1,
        "rr promises equal counts, but for one: {}",
        show(counts)
    );
    Ok(())
}

/// `wrr`: in whole cycles (as many connections as the weights add up to) every real server gets exactly its weight.
///
/// # Errors
/// When a count is not its share, or the number of connections is no whole number of cycles.
pub fn weighted_round_robin(counts: &Counts, weights: &Weights) -> Result<()> {
    only_available(counts, weights)?;
    let cycle: u64 = weights.iter().map(|(_, weight)| weight).sum();
    let total: u64 = counts.values().sum();
    ensure!(
        cycle > 0 && total.is_multiple_of(cycle),
        "{total} connections are no whole number of cycles of {cycle}: {}",
        show(counts)
    );
    for (server, count, weight) in available(counts, weights) {
        let share = total / cycle * weight;
        ensure!(count == share, "wrr promises {server} exactly {share} of {total}: {}", show(counts));
    }
    Ok(())
}

/// `wlc` while connections only come and none goes: each new one goes to the least loaded for its weight.
///
/// `before` and `after` are the connections that each real server has, at the two ends of the run. A real
/// server that got one in between must have been the least loaded when it got its last, so that with
/// one less it is not above any other.
///
/// # Errors
/// When one got more than that allows.
pub fn weighted_least_connection(before: &Counts, after: &Counts, weights: &Weights) -> Result<()> {
    let new: Counts = after
        .iter()
        .map(|(server, &count)| (server.clone(), count.saturating_sub(count_of(before, server))))
        .filter(|&(_, count)| count > 0)
        .collect();
    only_available(&new, weights)?;
    let loads = available(after, weights);
    for (server, count, weight) in loads.iter().filter(|(server, ..)| count_of(&new, server) > 0) {
        for (other, other_count, other_weight) in &loads {
            ensure!(
                (count - 1) * other_weight <= other_count * weight,
                "wlc gave {server} (weight {weight}) a connection while {other} (weight {other_weight}) had less \
                 for its weight: {}",
                show(after)
            );
        }
    }
    Ok(())
}

/// Hashing: a client always comes to the same real server.
///
/// # Errors
/// When one was answered by two.
pub fn sticky<C: Display>(by_client: &BTreeMap<C, Vec<String>>) -> Result<()> {
    for (client, servers) in by_client {
        let one = servers.first();
        ensure!(
            servers.iter().all(|server| Some(server) == one),
            "a hash promises one real server for {client}, but it was answered by {servers:?}"
        );
    }
    Ok(())
}

/// Hashing over many clients: shares are near to equal.
///
/// `clients` counts the clients of each real server. The bound is four standard deviations of a fair draw;
/// the hash is fixed, so that for given addresses the result never changes.
///
/// # Errors
/// When a share is outside, or an unavailable real server has clients.
pub fn near_equal(clients: &Counts, weights: &Weights) -> Result<()> {
    only_available(clients, weights)?;
    let of = available(clients, weights);
    let bound = near_equal_bound(clients.values().sum(), of.len());
    let mean = clients.values().sum::<u64>() as f64 / of.len() as f64;
    for (server, count, _) in of {
        let near = (count as f64 - mean).abs() <= bound;
        ensure!(
            near,
            "{server} has {count} clients, further than {bound:.1} from the mean {mean:.1}: {}",
            show(clients)
        );
    }
    Ok(())
}

/// How far from the mean [`near_equal`] lets a real server's number of clients be.
#[must_use]
pub fn near_equal_bound(clients: u64, servers: usize) -> f64 {
    let share = 1.0 / servers as f64;
    4.0 * (clients as f64 * share * (1.0 - share)).sqrt()
}

/// Maglev's promise when real servers change: of the clients whose real server stays, at least `share`
/// (0..=1) stay with it.
///
/// Clients that move to a real server which is new are not counted as lost: that is their purpose.
///
/// # Errors
/// When fewer stay.
pub fn mostly_undisturbed<C: Ord + Display>(
    before: &BTreeMap<C, String>,
    after: &BTreeMap<C, String>,
    staying: &[&str],
    share: f64,
) -> Result<()> {
    let could: Vec<_> = before
        .iter()
        .filter(|(_, server)| staying.contains(&server.as_str()))
        .filter_map(|(client, server)| Some((server, after.get(client)?)))
        .filter(|(_, now)| staying.contains(&now.as_str()))
        .collect();
    let stayed = could.iter().filter(|(then, now)| then == now).count();
    let enough = stayed as f64 >= share * could.len() as f64;
    ensure!(enough, "only {stayed} of {} clients whose real server stays have stayed with it", could.len());
    Ok(())
}

/// The numbers in one line.
#[must_use]
pub fn show(counts: &Counts) -> String {
    if counts.is_empty() {
        return "none".to_owned();
    }
    counts.iter().map(|(server, count)| format!("{server} {count}")).collect::<Vec<_>>().join(", ")
}

fn count_of(counts: &Counts, server: &str) -> u64 {
    counts.get(server).copied().unwrap_or(0)
}

/// Name, count and weight of the real servers that may be chosen.
fn available<'a>(counts: &Counts, weights: &'a Weights) -> Vec<(&'a str, u64, u64)> {
    weights
        .iter()
        .filter(|(_, weight)| *weight > 0)
        .map(|(server, weight)| (server.as_str(), count_of(counts, server), *weight))
        .collect()
}

fn only_available(counts: &Counts, weights: &Weights) -> Result<()> {
    ensure!(counts.values().sum::<u64>() > 0, "there was no connection at all, so nothing is proved");
    for (server, count) in counts.iter().filter(|&(_, &count)| count > 0) {
        ensure!(
            weights.iter().any(|(name, weight)| name == server && *weight > 0),
            "{server} answered {count} times, but is not to be chosen: {}",
            show(counts)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pairs: &[(&str, u64)]) -> Counts {
        pairs.iter().map(|&(name, count)| (name.to_owned(), count)).collect()
    }

    fn weights(pairs: &[(&str, u64)]) -> Vec<(String, u64)> {
        pairs.iter().map(|&(name, weight)| (name.to_owned(), weight)).collect()
    }

    #[test]
    fn round_robin_allows_a_difference_of_one() {
        let all = weights(&[("a", 1), ("b", 9), ("c", 1)]);
        assert!(round_robin(&counts(&[("a", 34), ("b", 33), ("c", 33)]), &all).is_ok());
        assert!(round_robin(&counts(&[("a", 35), ("b", 33), ("c", 33)]), &all).is_err());
        assert!(round_robin(&counts(&[("a", 2), ("b", 2)]), &all).is_err(), "one was never chosen");
        assert!(round_robin(&counts(&[]), &all).is_err(), "nothing is no proof");
    }

    #[test]
    fn the_drained_and_the_unknown_must_not_answer() {
        let drained = weights(&[("a", 0), ("b", 1)]);
        assert!(round_robin(&counts(&[("b", 5)]), &drained).is_ok());
        assert!(round_robin(&counts(&[("a", 1), ("b", 1)]), &drained).is_err());
        assert!(round_robin(&counts(&[("b", 1), ("z", 1)]), &drained).is_err());
    }

    #[test]
    fn weighted_round_robin_is_exact_in_whole_cycles() {
        let all = weights(&[("a", 1), ("b", 2), ("c", 3)]);
        assert!(weighted_round_robin(&counts(&[("a", 10), ("b", 20), ("c", 30)]), &all).is_ok());
        assert!(weighted_round_robin(&counts(&[("a", 11), ("b", 19), ("c", 30)]), &all).is_err());
        assert!(weighted_round_robin(&counts(&[("a", 10), ("b", 20), ("c", 31)]), &all).is_err());
    }

    /// What wlc does, connection by connection.
    fn schedule(counts: &mut Counts, weights: &Weights, connections: u64) {
        for _ in 0..connections {
            let (best, ..) = available(counts, weights)
                .into_iter()
                .reduce(|best, other| if best.1 * other.2 <= other.1 * best.2 { best } else { other })
                .unwrap();
            *counts.entry(best.to_owned()).or_default() += 1;
        }
    }

    #[test]
    fn weighted_least_connection_holds_for_what_it_does_and_for_no_other() {
        for pairs in [[1, 1, 1], [1, 2, 3], [5, 1, 7], [3, 0, 2]] {
            let all = weights(&[("a", pairs[0]), ("b", pairs[1]), ("c", pairs[2])]);
            for start in [counts(&[]), counts(&[("a", 40)]), counts(&[("b", 7), ("c", 90)])] {
                let mut after = start.clone();
                schedule(&mut after, &all, 61);
                weighted_least_connection(&start, &after, &all).unwrap();
                // Two connections moved from one to another are too much.
                let (most, _) = all
                    .iter()
                    .filter(|(server, weight)| *weight > 0 && count_of(&after, server) >= 2)
                    .map(|(server, weight)| (server, count_of(&after, server) * 100 / weight))
                    .max_by_key(|&(_, load)| load)
                    .unwrap();
                let mut skewed = after.clone();
                for _ in 0..4 * all.iter().map(|w| w.1).max().unwrap() {
                    *skewed.get_mut(most).unwrap() += 1;
                }
                assert!(weighted_least_connection(&start, &skewed, &all).is_err(), "{pairs:?} {skewed:?}");
            }
        }
    }

    #[test]
    fn a_new_real_server_may_catch_up_alone() {
        let all = weights(&[("a", 1), ("b", 1), ("new", 1)]);
        let before = counts(&[("a", 50), ("b", 50)]);
        let caught = counts(&[("a", 50), ("b", 50), ("new", 40)]);
        weighted_least_connection(&before, &caught, &all).unwrap();
        let wrong = counts(&[("a", 60), ("b", 60), ("new", 20)]);
        assert!(weighted_least_connection(&before, &wrong, &all).is_err());
    }

    #[test]
    fn sticky_clients_have_one_real_server() {
        let one =
            BTreeMap::from([("c1", vec!["a".to_owned(), "a".to_owned()]), ("c2", vec!["b".to_owned()])]);
        assert!(sticky(&one).is_ok());
        let two = BTreeMap::from([("c1", vec!["a".to_owned(), "b".to_owned()])]);
        assert!(sticky(&two).is_err());
    }

    #[test]
    fn shares_of_a_hash_are_near_to_equal() {
        let all = weights(&[("a", 1), ("b", 1), ("c", 1)]);
        assert!(near_equal(&counts(&[("a", 40), ("b", 30), ("c", 26)]), &all).is_ok());
        assert!(near_equal(&counts(&[("a", 60), ("b", 20), ("c", 16)]), &all).is_err());
        assert!(near_equal(&counts(&[("a", 48), ("b", 48)]), &all).is_err(), "one has no client at all");
    }

    #[test]
    fn clients_of_real_servers_that_stay_mostly_stay() {
        let before: BTreeMap<u32, String> =
            (0..100).map(|n| (n, if n < 50 { "gone" } else { "stays" }.to_owned())).collect();
        let mut after: BTreeMap<u32, String> = before.keys().map(|&n| (n, "stays".to_owned())).collect();
        mostly_undisturbed(&before, &after, &["stays", "other"], 0.9).unwrap();
        for n in 60..80 {
            after.insert(n, "other".to_owned());
        }
        assert!(mostly_undisturbed(&before, &after, &["stays", "other"], 0.9).is_err());
        for n in 60..80 {
            after.insert(n, "new".to_owned());
        }
        mostly_undisturbed(&before, &after, &["stays", "other"], 0.9).unwrap();
    }
}
