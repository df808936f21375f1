//! VLAN tags (IEEE 802.1Q): a TPID and a TCI of two bytes each, between the addresses of a frame and its EtherType.

use crate::packet::PacketBuf;

/// TPID of a customer's tag (IEEE 802.1Q), the common one.
pub const CUSTOMER: u16 = 0x8100;
/// TPID of a service provider's tag (IEEE 802.1ad), the outer one of QinQ.
pub const SERVICE: u16 = 0x88a8;
/// Length of a tag, in bytes.
pub const TAG_LEN: usize = 4;
/// How many tags are told apart in a frame.
pub const MOST: usize = 2;

/// Where the first tag stands: behind both addresses.
const AT: usize = 12;

/// A tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tag {
    /// What kind of tag: [`CUSTOMER`] or [`SERVICE`].
    pub tpid: u16,
    /// Priority (3 bits), drop eligibility (1 bit), VLAN id (12 bits).
    pub tci: u16,
}

impl Tag {
    /// The VLAN id; 0 where the tag tells but a priority.
    #[inline]
    pub fn id(self) -> u16 {
        self.tci & 0x0fff
    }
}

/// The tags of a frame, the outermost first; at most [`MOST`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    tags: [Tag; MOST],
    count: u8,
}

impl Tags {
    /// No tag.
    pub const NONE: Tags = Tags { tags: [Tag { tpid: 0, tci: 0 }; MOST], count: 0 };

    /// These tags, the outermost first; `None` where they are too many.
    pub fn new(tags: &[Tag]) -> Option<Tags> {
        let mut all = Tags::NONE;
        tags.iter().all(|tag| all.push(*tag)).then_some(all)
    }

    /// Adds one inside of those that are there. False where there is no room for it.
    #[must_use]
    pub fn push(&mut self, tag: Tag) -> bool {
        let place = self.tags.get_mut(usize::from(self.count));
        let has_room = place.is_some();
        if let Some(place) = place {
            *place = tag;
            self.count += 1;
        }
        has_room
    }

    /// The tags, the outermost first.
    #[inline]
    pub fn as_slice(&self) -> &[Tag] {
        self.tags.get(..usize::from(self.count)).unwrap_or_default()
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many bytes of a frame they are.
    #[inline]
    pub fn bytes(&self) -> usize {
        usize::from(self.count) * TAG_LEN
    }
}

/// The tags of a frame: those in `carried`, which stand outside of it, and those in its bytes, as far as there is room
/// for them in [`Tags`] and an EtherType follows.
#[inline]
pub fn read(frame: &[u8], carried: Tags) -> Tags {
    let mut tags = carried;
    let mut at = AT;
    while let Some(&[t0, t1, c0, c1, _, _]) = frame.get(at..at + TAG_LEN + 2) {
        let tag = Tag { tpid: u16::from_be_bytes([t0, t1]), tci: u16::from_be_bytes([c0, c1]) };
        if !matches!(tag.tpid, CUSTOMER | SERVICE) || !tags.push(tag) {
            break;
        }
        at += TAG_LEN;
    }
    tags
}

/// Takes the first tags, `len` bytes of them, out of a frame that holds them.
pub fn remove<P: PacketBuf>(packet: &mut P, len: usize) {
    let frame = packet.bytes_mut();
    if len == 0 || frame.len() < AT + len {
        return;
    }
    frame.copy_within(..AT, len);
    packet.trim_front(len);
}

/// Puts tags into a frame. False, and nothing changed, where it has no addresses or there is no room in front of it.
#[must_use]
pub fn insert<P: PacketBuf>(packet: &mut P, tags: Tags) -> bool {
    let len = tags.bytes();
    if packet.bytes().len() < AT || !packet.prepend(len) {
        return false;
    }
    let frame = packet.bytes_mut();
    frame.copy_within(len..len + AT, 0);
    for (tag, place) in tags.as_slice().iter().zip(frame[AT..].chunks_exact_mut(TAG_LEN)) {
        super::write_u16(place, 0, tag.tpid);
        super::write_u16(place, 2, tag.tci);
    }
    true
}

/// Puts the tags that a packet carries beside its frame back into it, byte for byte as they came. False, and nothing
/// changed, where there is no room for them.
#[must_use]
pub fn restore<P: PacketBuf>(packet: &mut P) -> bool {
    let tags = packet.tags();
    let done = tags.is_empty() || insert(packet, tags);
    if done {
        packet.set_tags(Tags::NONE);
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::BytesPacket;
    use proptest::prelude::*;

    fn tag() -> impl Strategy<Value = Tag> {
        (prop_oneof![Just(CUSTOMER), Just(SERVICE)], any::<u16>()).prop_map(|(tpid, tci)| Tag { tpid, tci })
    }

    /// A frame with these tags, made without the code above.
    fn frame(tags: &[Tag], rest: &[u8]) -> Vec<u8> {
        let mut bytes: Vec<u8> = (1..=12).collect();
        for tag in tags {
            bytes.extend(tag.tpid.to_be_bytes());
            bytes.extend(tag.tci.to_be_bytes());
        }
        bytes.extend(rest);
        bytes
    }

    proptest! {
        #[test]
        fn off_and_on_again_gives_the_same_bytes(
            tags in proptest::collection::vec(tag(), 0..4),
            rest in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let rest = [&[8, 0][..], &rest].concat();
            let before = frame(&tags, &rest);
            let mut packet = BytesPacket::new(&before);
            let read = read(packet.bytes(), Tags::NONE);
            prop_assert_eq!(read.as_slice(), &tags[..tags.len().min(MOST)]);
            remove(&mut packet, read.bytes());
            packet.set_tags(read);
            let inner = &tags[tags.len().min(MOST)..];
            prop_assert_eq!(packet.bytes(), &frame(inner, &rest)[..]);
            prop_assert!(restore(&mut packet));
            prop_assert_eq!(packet.bytes(), &before[..]);
            prop_assert!(packet.tags().is_empty());
        }

        #[test]
        fn no_bytes_are_too_strange(bytes: Vec<u8>, headroom in 0usize..12, carried in proptest::option::of(tag())) {
            let carried = carried.map_or(Tags::NONE, |tag| Tags::new(&[tag]).unwrap());
            let mut packet = BytesPacket::with_headroom(&bytes, headroom);
            let read = read(packet.bytes(), carried);
            remove(&mut packet, read.bytes() - carried.bytes());
            packet.set_tags(read);
            let shorter = packet.bytes().to_vec();
            if !restore(&mut packet) {
                prop_assert_eq!(packet.bytes(), &shorter[..]);
                prop_assert_eq!(packet.tags(), read);
            }
        }
    }

    #[test]
    fn what_a_nic_took_off_stands_outside_of_what_is_in_the_frame() {
        let [outer, inner] = [(SERVICE, 7), (CUSTOMER, 0xe064)].map(|(tpid, tci)| Tag { tpid, tci });
        let bytes = frame(&[inner], &[8, 0, 1]);
        let carried = Tags::new(&[outer]).unwrap();
        assert_eq!(read(&bytes, carried), Tags::new(&[outer, inner]).unwrap());
        assert_eq!(inner.id(), 100);
    }

    #[test]
    fn without_room_in_front_nothing_changes() {
        let bytes = frame(&[], &[8, 0, 1, 2, 3]);
        let mut packet = BytesPacket::with_headroom(&bytes, 7);
        let tag = Tag { tpid: CUSTOMER, tci: 1 };
        assert!(!insert(&mut packet, Tags::new(&[tag, tag]).unwrap()));
        assert_eq!(packet.bytes(), bytes);
        assert!(insert(&mut packet, Tags::new(&[tag]).unwrap()));
        assert_eq!(packet.bytes(), frame(&[tag], &[8, 0, 1, 2, 3]));
    }
}
