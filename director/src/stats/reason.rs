//! Why a packet went where it went. Every packet ends in exactly one reason.

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Leaves by a port.
    Forwarded,
    /// Goes to the lcore that owns its connection.
    HandedOver,
    /// Waits on its lcore, and is decided about again.
    Waiting,
    /// Goes to the kernel.
    Punted,
    /// Is lost, by name.
    Dropped,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $variant:ident $class:ident $name:literal,)*) => {
        /// Why a packet went where it went.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[doc = $doc])* $variant,)*
        }

        impl Reason {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Reason] = &[$(Reason::$variant,)*];

            /// What becomes of such a packet.
            #[inline]
            pub fn class(self) -> Class {
                const CLASSES: &[Class] = &[$(Class::$class,)*];
                CLASSES[self as usize]
            }

            /// The name under which it is counted.
            pub fn name(self) -> &'static str {
                const NAMES: &[&str] = &[$($name,)*];
                NAMES[self as usize]
            }

            /// One sentence on what it means.
            pub fn explanation(self) -> &'static str {
                const TEXTS: &[&str] = &[$(concat!($($doc,)*),)*];
                TEXTS[self as usize].trim()
            }
        }
    };
}

reasons! {
    /// From a client to a real server by NAT.
    RequestNat Forwarded "request_nat",
    /// From a client to a real server by direct routing.
    RequestDr Forwarded "request_dr",
    /// From a client to a real server by IP-IP tunnel.
    RequestTunnel Forwarded "request_tunnel",
    /// Past a service by mark without an available real server, to where it was going.
    RequestBypass Forwarded "request_bypass",
    /// From a real server back to its client by NAT.
    ReplyNat Forwarded "reply_nat",
    /// Answered with ICMP time exceeded: the TTL was used up.
    IcmpTimeExceeded Forwarded "icmp_time_exceeded",
    /// Answered with ICMP port unreachable: the service has no real server available.
    IcmpPortUnreachable Forwarded "icmp_port_unreachable",
    /// Answered with ICMP fragmentation needed or ICMPv6 packet too big: too long for the way to the real server, or back.
    IcmpTooBig Forwarded "icmp_too_big",
    /// An ICMP error about a reply, sent on to the real server.
    IcmpRequest Forwarded "icmp_request",
    /// An ICMP error about a request by NAT, sent on to the client.
    IcmpReply Forwarded "icmp_reply",
    /// An ICMP error about a tunnel's packet, turned into one for the client.
    IcmpTunnel Forwarded "icmp_tunnel",
    /// Sent by the kernel from where a real server that is the director itself answers, but of no connection.
    KernelsOwn Forwarded "kernels_own",
    /// Another lcore owns the connection.
    OtherLcore HandedOver "other_lcore",
    /// A fragment; another lcore gathers those of its packet.
    FragmentElsewhere HandedOver "fragment_elsewhere",
    /// A fragment that came before the first one of its packet, and waits for that.
    FragmentWaits Waiting "fragment_waits",
    /// Neither IPv4 nor IPv6: ARP, tags of VLANs that the kernel has no interface of.
    NotIp Punted "not_ip",
    /// Sent to a group of hosts: broadcast or multicast.
    Group Punted "group",
    /// For no virtual service, and of no known connection.
    NoService Punted "no_service",
    /// TCP or SCTP for a virtual service, but neither of a known connection nor opening one; the kernel answers it.
    NoConnection Punted "no_connection",
    /// Neither TCP, UDP nor SCTP, nor an ICMP error about a packet that was balanced.
    OtherProtocol Punted "other_protocol",
    /// The real server is the director itself.
    LocalServer Punted "local_server",
    /// For the kernel, but the port has no mirror interface.
    NoMirror Dropped "no_mirror",
    /// Shorter than an Ethernet header.
    TruncatedEthernet Dropped "truncated_ethernet",
    /// An IPv4 header that is cut short or contradicts itself or the frame.
    BadIpv4Header Dropped "bad_ipv4_header",
    /// An IPv4 header whose checksum is wrong, in a packet that would open a connection.
    BadIpv4Checksum Dropped "bad_ipv4_checksum",
    /// An IPv6 header that is cut short or contradicts the frame, or too many extension headers.
    BadIpv6Header Dropped "bad_ipv6_header",
    /// A TCP header that is cut short or impossible.
    BadTcpHeader Dropped "bad_tcp_header",
    /// A UDP header that is cut short or impossible.
    BadUdpHeader Dropped "bad_udp_header",
    /// An SCTP header that is cut short, or a first chunk that is or has an impossible length.
    BadSctpHeader Dropped "bad_sctp_header",
    /// An ICMP error whose checksum is wrong.
    BadIcmpChecksum Dropped "bad_icmp_checksum",
    /// Addressed to another Ethernet station.
    ForeignMac Dropped "foreign_mac",
    /// Scattered over several buffers, which this version does not read.
    Scattered Dropped "scattered",
    /// A part of a real server's answer to FTP's PASV or EPSV, which is to be sent again in one segment.
    FtpSplitAnswer Dropped "ftp_split_answer",
    /// A fragment that cuts a TCP, UDP or SCTP header in two, or cannot be a part of any packet.
    BadFragment Dropped "bad_fragment",
    /// A fragment without a connection: its first one was not let through.
    FragmentNoConnection Dropped "fragment_no_connection",
    /// A fragment of SCTP for a connection by NAT: whoever has but a part of a packet cannot compute its checksum.
    FragmentOfSctp Dropped "fragment_of_sctp",
    /// A fragment of which all has come before.
    FragmentCopy Dropped "fragment_copy",
    /// A fragment that says something else than another one of its packet, or of a packet with such.
    FragmentOverlap Dropped "fragment_overlap",
    /// A fragment came before the first one of its packet, and too many wait for such already.
    FragmentQueueFull Dropped "fragment_queue_full",
    /// A fragment waited for the first one of its packet, which did not come in time.
    FragmentTimeout Dropped "fragment_timeout",
    /// The table of connections is full; known connections are served.
    TableFull Dropped "table_full",
    /// The table of persistence templates is full; known clients are served.
    TemplateTableFull Dropped "template_table_full",
    /// Of no known connection, for a service that is persistent by SIP's Call-ID, and has none.
    NoCallId Dropped "no_call_id",
    /// It would open a connection, but `drop_packet` defends against too many.
    DropPacket Dropped "drop_packet",
    /// The connection's real server was removed.
    ServerRemoved Dropped "server_removed",
    /// The kernel has no route there by an interface that mirrors a port.
    NoRoute Dropped "no_route",
    /// Too long for the next link, which is narrower than IPv6 allows, or too narrow for a fragment.
    NeedsFragmentation Dropped "needs_fragmentation",
    /// No packet was free to put a fragment into: the pool of mbufs is empty.
    NoMbuf Dropped "no_mbuf",
    /// No room in front of the frame for another header.
    NoHeadroom Dropped "no_headroom",
    /// An ICMP error that cannot be sent on: its own TTL is used up, or it is too long.
    IcmpUndeliverable Dropped "icmp_undeliverable",
    /// An ICMP error was due, but enough of them were sent lately.
    IcmpLimited Dropped "icmp_limited",
    /// The next hop's Ethernet address is not known, and too many packets wait for such already.
    NeighbourQueueFull Dropped "neighbour_queue_full",
    /// The next hop did not answer ARP or neighbour discovery in time.
    NeighbourSilent Dropped "neighbour_silent",
    /// The port's transmit queue was full.
    TxFull Dropped "tx_full",
    /// The owner lcore's ring was full.
    HandOverFull Dropped "hand_over_full",
    /// The ring to the slow path was full.
    PuntFull Dropped "punt_full",
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_reason_is_in_the_documentation() {
        let text = include_str!("../../../docs/reasons.md");
        for reason in Reason::ALL {
            let row = text.lines().find(|line| line.starts_with(&format!("| `{}` |", reason.name())));
            assert!(row.is_some_and(|row| row.contains(reason.explanation())), "{}", reason.name());
        }
    }

    #[test]
    fn every_reason_has_a_number_a_name_of_its_own_and_an_explanation() {
        let names: HashSet<_> = Reason::ALL.iter().map(|r| r.name()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        for (i, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, i);
            assert!(reason.explanation().ends_with('.'));
        }
    }
}
