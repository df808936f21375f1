//! Call-IDs of templates.

use crate::sip::MAX_CALL_ID;

/// Length and text of one.
const ROOM: usize = 1 + MAX_CALL_ID;

/// The Call-ID of each template by its slot, empty where it has none. Where no template has one, that takes addresses
/// and no memory.
#[derive(Debug, Default)]
pub(super) struct CallIds(Vec<u8>);

impl CallIds {
    /// With room for so many.
    pub(super) fn with_capacity(slots: usize) -> CallIds {
        CallIds(Vec::with_capacity(slots * ROOM))
    }

    /// That of a slot.
    pub(super) fn get(&self, slot: usize) -> &[u8] {
        match self.0.get(slot * ROOM..(slot + 1) * ROOM) {
            Some([len, text @ ..]) => &text[..usize::from(*len)],
            _ => &[],
        }
    }

    /// Gives a slot this one, of which no more than [`MAX_CALL_ID`] bytes count.
    pub(super) fn set(&mut self, slot: usize, call_id: &[u8]) {
        let end = (slot + 1) * ROOM;
        if self.0.len() < end {
            if call_id.is_empty() {
                return;
            }
            self.0.resize(end, 0);
        }
        let len = call_id.len().min(MAX_CALL_ID);
        let room = &mut self.0[slot * ROOM..end];
        room[0] = len as u8;
        room[1..=len].copy_from_slice(&call_id[..len]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slot_has_its_own_or_none() {
        let mut ids = CallIds::with_capacity(4);
        ids.set(0, b"");
        assert_eq!(ids.0.len(), 0, "who has none takes nothing");
        let longest = [b'x'; MAX_CALL_ID];
        ids.set(2, &longest);
        ids.set(1, b"a@b");
        assert_eq!([ids.get(0), ids.get(1), ids.get(2), ids.get(3)], [&b""[..], b"a@b", &longest, b""]);
        ids.set(2, b"short");
        ids.set(1, b"");
        assert_eq!([ids.get(1), ids.get(2)], [&b""[..], b"short"]);
    }
}
