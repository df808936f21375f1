//! ICMP errors that quote packets of connections, true ones spoilt as the bytes say.

use std::net::SocketAddr;

use director::stats::Reason;
use director::time::Tick;

use super::input::Input;
use super::pipeline::{bottle, framed, send};
use crate::oracle::network;
use crate::oracle::packet::{ICMP, ICMPV6, Packet, UDP};

/// Opens connections by every method and family, then sends errors about what left, with bytes changed.
///
/// # Panics
/// As [`super::pipeline()`].
pub fn quoted(data: &[u8]) {
    let mut input = Input(data);
    let now = Tick(1000);
    let mut bottle = bottle(now);
    let mut about = Vec::new();
    for v6 in [false, true] {
        for port in 0..6 {
            let client = SocketAddr::new(network::client(1, v6), 30_000 + port);
            let mut request = Packet::between(client.ip(), network::vip(1, v6), UDP);
            request.payload =
                [&client.port().to_be_bytes()[..], &80u16.to_be_bytes(), &[0, 12, 0, 0], b"data"].concat();
            request.sum_up();
            let sent = send(&mut bottle, 0, &framed(0, &request.ip()), now);
            let (verdict, out) = sent.expect("no fragment waits");
            let to_a_server =
                [Reason::RequestNat, Reason::RequestDr, Reason::RequestTunnel, Reason::LocalServer];
            assert!(to_a_server.contains(&verdict.reason));
            about.push(out[14..].to_vec());
        }
    }
    while !input.is_empty() {
        let packet = &about[usize::from(input.byte()) % about.len()];
        let v6 = packet[0] >> 4 == 6;
        let mut error = Packet::between(
            network::server(input.byte() % 9 + 1, v6),
            if input.byte() & 1 == 0 { network::own(2, v6) } else { network::client(1, v6) },
            if v6 { ICMPV6 } else { ICMP },
        );
        let len = usize::from(input.byte());
        error.payload = vec![input.byte() % 16, input.byte(), 0, 0, 0, 0, input.byte(), input.byte()];
        error.payload.extend(packet.iter().take(len));
        for _ in 0..input.byte() % 4 {
            let at = usize::from(input.byte()) % error.payload.len();
            error.payload[at] ^= input.byte();
        }
        if input.byte() & 7 != 0 {
            error.sum_up();
        }
        send(&mut bottle, 1, &framed(1, &error.ip()), now.after(u32::from(input.byte())));
    }
}
