//! Capture files for net_pcap (the format of libpcap 2.4, microseconds, native byte order).

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::flows::Templates;
use crate::error::{Context as _, Result};

const MAGIC: u32 = 0xa1b2_c3d4;
const ETHERNET: u32 = 1;
const LONGEST: u32 = 65_535;

/// Writes the frames of these connections, in this order.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, templates: &Templates, connections: impl Iterator<Item = u32>) -> Result<()> {
    let mut frame = vec![0; templates.frame_len()];
    write_frames(
        path,
        connections.map(|n| {
            templates.stamp(n, &mut frame);
            frame.clone()
        }),
    )
}

/// Writes these frames, in this order.
///
/// # Errors
/// When the file cannot be written.
pub fn write_frames(path: &Path, frames: impl Iterator<Item = Vec<u8>>) -> Result<()> {
    let what = || format!("cannot write the capture {}", path.display());
    let mut file = BufWriter::new(File::create(path).context(what)?);
    let mut put = |bytes: &[u8]| file.write_all(bytes).context(what);
    let [version_major, version_minor] = [2u16, 4].map(u16::to_ne_bytes);
    put(&MAGIC.to_ne_bytes())?;
    put(&version_major)?;
    put(&version_minor)?;
    for word in [0, 0, LONGEST, ETHERNET] {
        put(&word.to_ne_bytes())?;
    }
    for frame in frames {
        // Seconds, microseconds, bytes here, bytes on the wire.
        for word in [0, 0, frame.len() as u32, frame.len() as u32] {
            put(&word.to_ne_bytes())?;
        }
        put(&frame)?;
    }
    file.flush().context(what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::case::{Direction, Traffic};
    use crate::bench::flows::Target;

    #[test]
    fn tcpdump_reads_what_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("some.pcap");
        let templates = Templates::new(Traffic::Tcp, Direction::Request, 16, Target::Each);
        write(&path, &templates, 0..3).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 24 + 3 * (16 + 60));
        let output = std::process::Command::new("tcpdump").args(["-nvr"]).arg(&path).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(text.matches("(correct)").count(), 3, "{text}");
        assert!(text.contains("198.18.0.3.80: Flags [.]"), "{text}");
    }
}
