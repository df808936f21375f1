//! At which ports FTP's control connections are.

/// The most ports that there can be, as many as Linux `ip_vs_ftp` takes.
const MOST: usize = 8;

/// Ports of control connections. Small, and looked at when a TCP connection by NAT is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FtpPorts([u16; MOST]);

impl FtpPorts {
    /// These ports, the first eight of them. Port 0 is none.
    pub fn new(ports: &[u16]) -> FtpPorts {
        let mut all = [0; MOST];
        all.iter_mut().zip(ports).for_each(|(place, port)| *place = *port);
        FtpPorts(all)
    }

    /// Whether one of them is this.
    #[inline]
    pub fn contains(&self, port: u16) -> bool {
        port != 0 && self.0.contains(&port)
    }
}

impl Default for FtpPorts {
    fn default() -> Self {
        FtpPorts::new(&[super::CONTROL_PORT])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_by_default_and_eight_at_most() {
        let default = FtpPorts::default();
        assert!(default.contains(21) && !default.contains(0) && !default.contains(2121));
        let many = FtpPorts::new(&[1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert!(many.contains(8) && !many.contains(9) && !many.contains(21));
        assert!(!FtpPorts::new(&[]).contains(21));
    }
}
