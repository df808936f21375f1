//! Capture files of the classic format, as DPDK's `net_pcap` reads and writes them.
//!
//! Format: <https://www.ietf.org/archive/id/draft-gharris-opsawg-pcap-01.html>. Here always in this
//! machine's byte order, which is what libpcap writes too.

use std::io::{Error, ErrorKind, Result, Write};

/// Says that times are in microseconds, and in which byte order the file is.
const MICROSECONDS: u32 = 0xa1b2_c3d4;

/// The same for times in nanoseconds, as `net_pcap` writes them.
const NANOSECONDS: u32 = 0xa1b2_3c4d;

/// `LINKTYPE_ETHERNET`.
const ETHERNET: u32 = 1;

/// The longest frame a file may hold, in bytes.
const SNAP_LEN: u32 = 65535;

/// Writes `frames`, all of them at time 0.
///
/// # Errors
/// Those of the writer, and a frame longer than 65535 bytes.
pub fn write<'a>(mut to: impl Write, frames: impl IntoIterator<Item = &'a [u8]>) -> Result<()> {
    let (major, minor) = (2u16, 4u16);
    to.write_all(&MICROSECONDS.to_ne_bytes())?;
    to.write_all(&major.to_ne_bytes())?;
    to.write_all(&minor.to_ne_bytes())?;
    for word in [0, 0, SNAP_LEN, ETHERNET] {
        to.write_all(&word.to_ne_bytes())?;
    }
    for frame in frames {
        let len = u32::try_from(frame.len())
            .ok()
            .filter(|len| *len <= SNAP_LEN)
            .ok_or_else(|| Error::new(ErrorKind::InvalidInput, "a frame longer than 65535 bytes"))?;
        for word in [0, 0, len, len] {
            to.write_all(&word.to_ne_bytes())?;
        }
        to.write_all(frame)?;
    }
    to.flush()
}

/// The frames of a capture file, in order; their times are not read.
///
/// # Errors
/// If it is not such a file, was written in the other byte order, or ends early.
pub fn read(file: &[u8]) -> Result<Vec<Vec<u8>>> {
    let early = || Error::new(ErrorKind::UnexpectedEof, "the capture file ends early");
    let word = |at: &[u8], n: usize| -> Result<u32> {
        let bytes = at.get(4 * n..4 * n + 4).ok_or_else(early)?;
        Ok(u32::from_ne_bytes(bytes.try_into().expect("four bytes were taken")))
    };
    if !matches!(word(file, 0)?, MICROSECONDS | NANOSECONDS) || word(file, 5)? != ETHERNET {
        return Err(Error::new(
            ErrorKind::InvalidData,
            "not an Ethernet capture in this machine's byte order",
        ));
    }
    let mut rest = file.get(24..).ok_or_else(early)?;
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let len = word(rest, 2)? as usize;
        frames.push(rest.get(16..16 + len).ok_or_else(early)?.to_vec());
        rest = &rest[16 + len..];
    }
    Ok(frames)
}
