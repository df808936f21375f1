//! Destination hashing: a table of 256 slots, filled with the real servers in turn, whatever their weights;
//! the destination address names the slot (Linux `ip_vs_dh.c`). Whoever is not available refuses.

use super::hash::{SLOTS, slot};
use super::{Candidate, Load, Request};

/// The table.
#[derive(Clone, Debug)]
pub struct DestinationHashing {
    /// Slot to candidate; empty where there is none.
    table: Box<[u32]>,
}

impl DestinationHashing {
    pub(super) fn build(candidates: &[Candidate]) -> DestinationHashing {
        let all = 0..candidates.len() as u32;
        DestinationHashing { table: all.cycle().take(SLOTS as usize).collect() }
    }

    /// The slot of a request, and whose it is.
    pub(super) fn slot(&self, request: Request) -> (u32, Option<usize>) {
        let slot = slot(request.destination, 0);
        (slot, self.table.get(slot as usize).map(|at| *at as usize))
    }

    pub(super) fn choose(
        &self,
        candidates: &[Candidate],
        request: Request,
        load: &impl Load,
    ) -> Option<usize> {
        let at = self.slot(request).1?;
        candidates[at].is_available(load).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Overloaded, candidates, request};
    use super::*;

    fn toward(destination: &str) -> Request {
        Request { destination: destination.parse().unwrap(), ..request(1) }
    }

    #[test]
    fn the_slot_is_the_one_that_linux_computes() {
        let many = candidates(&[1; 256]);
        let dh = DestinationHashing::build(&many);
        let choose = |destination| dh.choose(&many, toward(destination), &Overloaded(&[]));
        // hash_32(addr, 8) = (addr * 0x61c88647 mod 2^32) >> 24.
        let by_hand = |word: u64| Some(((word * 0x61C8_8647 % (1 << 32)) >> 24) as usize);
        assert_eq!(choose("10.99.0.1"), by_hand(0x0a63_0001));
        // The four words of an IPv6 address by XOR.
        assert_eq!(choose("2001:db8::80"), by_hand(0x2001_0db8 ^ 0x80));
        assert_eq!(choose("2001:db8::80"), choose("2001:db8:1:1:1:1::80"));
    }

    #[test]
    fn slots_go_round_whatever_the_weights_and_some_refuse() {
        let some = candidates(&[9, 0, 1]);
        let dh = DestinationHashing::build(&some);
        assert_eq!(dh.table.len(), 256);
        assert_eq!(dh.table[..7], [0, 1, 2, 0, 1, 2, 0]);
        let chosen =
            (0..=255u8).map(|n| dh.choose(&some, toward(&format!("10.99.{n}.1")), &Overloaded(&[2])));
        let chosen: Vec<_> = chosen.collect();
        assert!(chosen.iter().all(|at| matches!(at, None | Some(0))), "weight 0, and an overloaded one");
        assert!(chosen.contains(&None) && chosen.contains(&Some(0)));
        assert_eq!(DestinationHashing::build(&[]).choose(&[], toward("10.99.0.1"), &Overloaded(&[])), None);
    }
}
