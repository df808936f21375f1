//! Fragments among stamped frames: five in a hundred.

use director::wire::checksum;

/// Of so many frames the last two are the fragments of one datagram.
const PERIOD: u32 = 40;
const IP: usize = 14;
const TRANSPORT: usize = IP + 20;
/// Bytes of UDP in each fragment.
const PIECE: usize = 24;
const MORE_FRAGMENTS: u16 = 0x2000;

/// Which frames are cut, and how.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// Of this period.
    frames: u32,
    /// The datagram whose second fragment is to come: its connection.
    begun: Option<u32>,
    /// Identification, another one for each datagram.
    id: u16,
}

impl Pieces {
    /// The connection of the datagram whose second fragment comes next, if it does.
    pub(super) fn second(&self) -> Option<u32> {
        self.begun
    }

    /// Makes a frame of UDP over IPv4 a fragment if it is its turn. Its checksum stays that of the template: real
    /// servers alone would look at it.
    pub(super) fn cut(&mut self, n: u32, frame: &mut [u8]) {
        self.frames = (self.frames + 1) % PERIOD;
        let place = if self.begun.take().is_some() {
            (PIECE / 8) as u16
        } else if self.frames == PERIOD - 1 {
            self.begun = Some(n);
            self.id = self.id.wrapping_add(1);
            frame[TRANSPORT + 4..TRANSPORT + 6].copy_from_slice(&(2 * PIECE as u16).to_be_bytes());
            MORE_FRAGMENTS
        } else {
            return;
        };
        let ip = &mut frame[IP..TRANSPORT];
        ip[2..4].copy_from_slice(&(20 + PIECE as u16).to_be_bytes());
        ip[4..6].copy_from_slice(&self.id.to_be_bytes());
        ip[6..8].copy_from_slice(&place.to_be_bytes());
        ip[10..12].fill(0);
        let sum = !checksum::sum(ip, 0);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::super::case::{Direction, Traffic};
    use super::super::flows::{ACK, FRAME, Target, Templates};
    use super::*;
    use director::wire::{self, Family as _, Ipv4Frame, Transport};
    use std::collections::HashSet;

    #[test]
    fn five_in_a_hundred_are_fragments_of_datagrams_that_are_all_different() {
        let templates = Templates::new(Traffic::UdpFragments, Direction::Request, ACK, Target::Each);
        let (mut pieces, mut firsts, mut laters) = (Pieces::default(), Vec::new(), Vec::new());
        for n in 0..4000 {
            let mut frame = [0; FRAME];
            let connection = pieces.second().unwrap_or(n);
            templates.stamp(connection, &mut frame);
            pieces.cut(connection, &mut frame);
            let mut parsed = Ipv4Frame::NONE;
            wire::parse(&frame, &mut parsed).expect("a sound frame");
            assert!(std::net::Ipv4Addr::checksum_is_valid(&frame[IP..TRANSPORT]));
            let id = u16::from_be_bytes([frame[IP + 4], frame[IP + 5]]);
            match parsed.transport {
                Transport::FirstFragment => firsts.push((id, parsed.source)),
                Transport::LaterFragment => laters.push((id, parsed.source)),
                other => assert_eq!(other, Transport::Udp),
            }
        }
        assert_eq!((firsts.len(), &firsts), (100, &laters));
        assert_eq!(firsts.iter().collect::<HashSet<_>>().len(), 100);
    }
}
