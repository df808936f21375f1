//! The frames of a trial: UDP of many clients, with a mark and the time at their end, where neither another Ethernet
//! header, nor NAT, nor a tunnel moves them.

use std::net::{Ipv4Addr, SocketAddrV4};

use director::nexthop::MacAddr;
use director::wire::checksum::{self, Delta};
use director::wire::{ethernet, ipv4, udp};

use crate::ensure;
use crate::error::Result;

/// Sizes that RFC 2544 §9.1 asks for, FCS included, in bytes.
pub(super) const SIZES: [u16; 7] = [64, 128, 256, 512, 1024, 1280, 1518];
/// The FCS, which NICs write.
pub(super) const FCS: u16 = 4;
/// Networks for benchmarks begin here (RFC 2544 appendix C.2.2): 198.18.0.0/15.
const CLIENTS: u32 = u32::from_be_bytes([198, 18, 0, 0]);
/// How many addresses they have.
const ADDRESSES: u32 = 1 << 17;
/// Clients' ports begin here.
const FIRST_PORT: u16 = 1024;
/// The most clients that can be told apart.
pub(super) const MOST_CLIENTS: u32 = ADDRESSES * 1000;

const IP_SOURCE: usize = ethernet::HEADER_LEN + 12;
const IP_CHECKSUM: usize = ethernet::HEADER_LEN + 10;
const UDP: usize = ethernet::HEADER_LEN + ipv4::MIN_HEADER_LEN;
const MAGIC: u32 = 0xd12e_2544;
/// Magic, number of the trial, time.
const TAIL: usize = 16;

/// Frames of one size to one service.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    /// Of a client at 0.0.0.0:0, with an empty tail.
    frame: Vec<u8>,
    clients: u32,
}

impl Stream {
    /// Frames of `size` bytes, FCS included, of so many clients.
    ///
    /// # Errors
    /// A size that there is not.
    pub(super) fn new(
        size: u16,
        clients: u32,
        source: MacAddr,
        destination: MacAddr,
        service: SocketAddrV4,
    ) -> Result<Stream> {
        ensure!(
            (64..=9018).contains(&size) && size.is_multiple_of(2),
            "frames of {size} bytes cannot be: give an even number from 64 to 9018, FCS included"
        );
        ensure!(
            (1..=MOST_CLIENTS).contains(&clients),
            "{clients} clients cannot be: give from 1 to {MOST_CLIENTS}"
        );
        let mut frame = vec![0; usize::from(size - FCS)];
        let mut stations = [0; 12];
        stations[..6].copy_from_slice(&destination.0);
        stations[6..].copy_from_slice(&source.0);
        ethernet::write_header(&mut frame, &stations, ethernet::IPV4);
        let total_len = frame.len() - ethernet::HEADER_LEN;
        ipv4::Header {
            tos: 0,
            total_len: total_len as u16,
            id: 0,
            flags_and_offset: ipv4::DONT_FRAGMENT,
            ttl: 64,
            protocol: ipv4::UDP,
            source: Ipv4Addr::UNSPECIFIED,
            destination: *service.ip(),
        }
        .write(&mut frame[ethernet::HEADER_LEN..]);
        let len = (frame.len() - UDP) as u16;
        let pseudo = checksum::pseudo_header_v4(Ipv4Addr::UNSPECIFIED, *service.ip(), ipv4::UDP, len);
        udp::write(&mut frame[UDP..], (0, service.port()), len);
        udp::write_checksum(&mut frame[UDP..], pseudo);
        Ok(Stream { frame, clients })
    }

    /// Length of each frame, without FCS.
    #[must_use]
    pub(super) fn frame_len(&self) -> usize {
        self.frame.len()
    }

    /// How many clients there are.
    #[must_use]
    pub(super) fn clients(&self) -> u32 {
        self.clients
    }

    /// Writes a frame of the `n`-th client, sent in this trial at this time.
    pub(super) fn stamp(&self, n: u32, trial: u32, time: u64, frame: &mut [u8]) {
        frame.copy_from_slice(&self.frame);
        let n = n % self.clients;
        let address = CLIENTS + n % ADDRESSES;
        let port = FIRST_PORT + (n / ADDRESSES) as u16;
        frame[IP_SOURCE..IP_SOURCE + 4].copy_from_slice(&address.to_be_bytes());
        frame[UDP..UDP + 2].copy_from_slice(&port.to_be_bytes());
        let tail = [MAGIC, trial, (time >> 32) as u32, time as u32];
        let (words, _) = frame[self.frame.len() - TAIL..].as_chunks_mut::<4>();
        words.iter_mut().zip(tail).for_each(|(place, word)| *place = word.to_be_bytes());
        let of_client = Delta::NONE.replace_u32(0, address);
        mend(frame, IP_CHECKSUM, of_client);
        let of_all = tail.into_iter().fold(of_client, |delta, word| delta.replace_u32(0, word));
        mend(frame, UDP + udp::CHECKSUM, of_all.replace_u16(0, port));
    }
}

fn mend(frame: &mut [u8], at: usize, delta: Delta) {
    let old = u16::from_be_bytes([frame[at], frame[at + 1]]);
    let new = delta.apply(old);
    frame[at..at + 2].copy_from_slice(&new.to_be_bytes());
}

/// When a frame was sent, if it is of this trial.
#[must_use]
pub(super) fn sent_at(frame: &[u8], trial: u32) -> Option<u64> {
    let tail: &[u8; TAIL] = frame.last_chunk()?;
    let word = |at: usize| u32::from_be_bytes([tail[at], tail[at + 1], tail[at + 2], tail[at + 3]]);
    (word(0) == MAGIC && word(4) == trial).then(|| u64::from(word(8)) << 32 | u64::from(word(12)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use director::wire::{self, Ipv4Frame, Parsed};

    #[test]
    fn frames_are_sound_and_known_again() {
        let service = "10.99.0.1:53".parse().unwrap();
        let (source, destination) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
        for size in SIZES {
            let stream = Stream::new(size, 300_000, source, destination, service).unwrap();
            for (n, time) in [(0, 0), (1, u64::MAX), (131_072, 1 << 40), (299_999, 77)] {
                let mut frame = vec![0; stream.frame_len()];
                stream.stamp(n, 9, time, &mut frame);
                assert_eq!(frame.len(), usize::from(size) - 4);
                let mut parsed = Ipv4Frame::NONE;
                assert_eq!(wire::parse(&frame, &mut parsed), Ok(Parsed::Ipv4));
                let expected =
                    SocketAddrV4::new((CLIENTS + n % ADDRESSES).into(), 1024 + (n / ADDRESSES) as u16);
                assert_eq!((parsed.source, parsed.source_port()), (*expected.ip(), expected.port()));
                assert!(ipv4::checksum_is_valid(&frame[14..34]));
                let datagram = &frame[34..];
                let pseudo =
                    checksum::pseudo_header_v4(parsed.source, parsed.destination, 17, datagram.len() as u16);
                assert_eq!(checksum::sum(datagram, pseudo), 0xffff, "{size} {n}");
                assert_eq!(sent_at(&frame, 9), Some(time));
                assert_eq!(sent_at(&frame, 8), None, "of another trial");
            }
        }
        assert_eq!(sent_at(&[0; 60], 0), None);
        assert_eq!(sent_at(&[], 0), None);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let new = |size, clients| {
            Stream::new(size, clients, MacAddr([0; 6]), MacAddr([0; 6]), "10.0.0.1:7".parse().unwrap())
        };
        for (size, clients) in [(63, 1), (62, 1), (65, 1), (9020, 1), (64, 0), (64, MOST_CLIENTS + 1)] {
            assert!(new(size, clients).is_err(), "{size} {clients}");
        }
        assert!(new(64, MOST_CLIENTS).is_ok() && new(9018, 1).is_ok());
    }
}
