//! Frames read and summed by hand, without capsule: byte offsets and RFC 1071 written out.
//!
//! IPv4 without options only, as capsule makes.

/// Where the IPv4 header starts.
pub(crate) const IP: usize = 14;

/// Where the transport header starts.
pub(crate) const TRANSPORT: usize = IP + 20;

/// Two bytes at `at`, as a number.
pub(crate) fn word(frame: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

/// The IPv4 total length.
pub(crate) fn ip_len(frame: &[u8]) -> usize {
    usize::from(word(frame, IP + 2))
}

/// RFC 1071's sum, 0xffff where a checksum among the bytes is right.
pub(crate) fn sum(bytes: impl IntoIterator<Item = u8>) -> u16 {
    let mut sum: u64 = 0;
    for (n, byte) in bytes.into_iter().enumerate() {
        sum += u64::from(byte) << if n % 2 == 0 { 8 } else { 0 };
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Whether the IPv4 header's checksum is right.
pub(crate) fn ip_checksum_right(frame: &[u8]) -> bool {
    sum(frame[IP..TRANSPORT].iter().copied()) == 0xffff
}

/// Whether the transport checksum is right, over as much as the IPv4 header says there is.
pub(crate) fn transport_checksum_right(frame: &[u8]) -> bool {
    let segment = &frame[TRANSPORT..IP + ip_len(frame)];
    let len = u16::try_from(segment.len()).unwrap().to_be_bytes();
    let pseudo = frame[IP + 12..IP + 20].iter().copied().chain([0, frame[IP + 9], len[0], len[1]]);
    sum(pseudo.chain(segment.iter().copied())) == 0xffff
}

/// The payload of TCP or UDP.
pub(crate) fn payload(frame: &[u8]) -> &[u8] {
    let header = match frame[IP + 9] {
        6 => usize::from(frame[TRANSPORT + 12] >> 4) * 4,
        17 => 8,
        other => panic!("protocol {other}"),
    };
    &frame[TRANSPORT + header..IP + ip_len(frame)]
}
