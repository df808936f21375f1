//! `directorctl explain`: what would become of a packet, and why.

use std::fmt::Write as _;
use std::net::SocketAddr;

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::names;
use super::output::{Side, Table};
use super::session::{Failure, Session};
use super::values::{self, ProtocolArg};
use crate::protocol::{CandidateStatus, Explanation, PacketSketch, Request, SctpChunk, TcpFlag};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Transport protocol
    #[arg(long, default_value = "tcp")]
    proto: ProtocolArg,

    /// Source address and port: 192.0.2.7:40000
    #[arg(long, value_name = "SOURCE", value_parser = values::address_with_port)]
    from: SocketAddr,

    /// Destination address and port: 10.99.0.1:80
    #[arg(long, value_name = "DESTINATION", value_parser = values::address_with_port)]
    to: SocketAddr,

    /// Flags of the TCP segment: syn, or syn,ack [default: syn where no connection is known, else ack]
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(TcpFlag::ALL.map(TcpFlag::word)))]
    flags: Vec<String>,

    /// First chunk of the SCTP packet [default: init where no association is known, else data]
    #[arg(long, value_parser = PossibleValuesParser::new(SctpChunk::ALL.map(|(_, word, _)| word)))]
    chunk: Option<String>,

    /// Length of the IP packet [default: as short as can be]
    #[arg(long, value_name = "BYTES")]
    size: Option<u16>,

    /// TTL or hop limit [default: 64]
    #[arg(long, value_name = "N")]
    ttl: Option<u8>,

    /// The packet may be fragmented: without DF
    #[arg(long)]
    no_df: bool,

    /// DSCP, for rules that mark by it [default: 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=63))]
    dscp: Option<u8>,

    /// Number of the port that receives it [default: the one that leads to its source]
    #[arg(long, value_name = "N")]
    port: Option<u8>,

    /// Call-ID of a message of SIP
    #[arg(long, value_name = "TEXT")]
    call_id: Option<String>,
}

impl Options {
    fn sketch(self) -> PacketSketch {
        let flag = |word: &String| TcpFlag::ALL.into_iter().find(|flag| flag.word() == word);
        let chunk = |word: String| SctpChunk::ALL.into_iter().find(|(_, of, _)| *of == word);
        PacketSketch {
            protocol: self.proto.into(),
            from: self.from,
            to: self.to,
            flags: (!self.flags.is_empty()).then(|| self.flags.iter().filter_map(flag).collect()),
            chunk: self.chunk.and_then(chunk).map(|(chunk, ..)| chunk),
            size: self.size,
            ttl: self.ttl,
            df: self.no_df.then_some(false),
            dscp: self.dscp,
            port: self.port,
            call_id: self.call_id,
        }
    }
}

pub(super) fn run(options: Options, session: &mut Session) -> Result<(), Failure> {
    session.show(&Request::Explain { packet: options.sketch() }, text).map(|_| ())
}

/// The packet, a line for each decision, the real servers among which was chosen, and the verdict.
fn text(explanation: &Explanation) -> String {
    let mut steps = Table::new(&[("Packet", Side::Left), (&packet(&explanation.packet), Side::Left)]);
    for step in &explanation.steps {
        steps.row([step.step.clone(), step.finding.clone()]);
    }
    steps.row(["verdict".to_owned(), verdict(explanation)]);
    let mut text = steps.take();
    if !explanation.assumed.is_empty() {
        let _ = writeln!(text, "assumed: {}", explanation.assumed.join(", "));
    }
    if !explanation.candidates.is_empty() {
        let mut table = Table::new(&[
            ("RealServer", Side::Left),
            ("Weight", Side::Right),
            ("ActiveConn", Side::Right),
            ("InActConn", Side::Right),
            ("Standing", Side::Left),
        ]);
        explanation.candidates.iter().for_each(|candidate| table.row(row(candidate)));
        let _ = write!(text, "\n{}", table.take());
    }
    if let Some(missing) = &explanation.missing {
        let _ =
            write!(text, "\nmissing: {} ({})\n  try: {}\n", missing.message, missing.code, missing.remedy);
    }
    text
}

fn packet(packet: &PacketSketch) -> String {
    let mut text = format!("{} {} -> {}", names::protocol(packet.protocol), packet.from, packet.to);
    if let Some(flags) = &packet.flags {
        let words: Vec<&str> = flags.iter().map(|flag| flag.word()).collect();
        let _ = write!(text, " {}", words.join(","));
    }
    if let Some(chunk) = packet.chunk {
        let _ = write!(text, " {}", chunk.word());
    }
    if let Some(size) = packet.size {
        let _ = write!(text, ", {size} bytes");
    }
    if let Some(ttl) = packet.ttl {
        let _ = write!(text, ", TTL {ttl}");
    }
    if packet.df == Some(true) && packet.to.is_ipv4() {
        text.push_str(", DF");
    }
    if let Some(dscp) = packet.dscp.filter(|dscp| *dscp != 0) {
        let _ = write!(text, ", DSCP {dscp}");
    }
    text
}

fn verdict(explanation: &Explanation) -> String {
    let mut verdict = format!("{}, {}: {}", explanation.action, explanation.reason, explanation.meaning);
    if let Some(server) = explanation.server {
        let method = explanation.method.map_or("", names::method);
        let _ = write!(verdict, " Real server {server} {method}");
    }
    verdict.trim_end().to_owned()
}

fn row(candidate: &CandidateStatus) -> [String; 5] {
    let mut standing = Vec::new();
    if candidate.chosen {
        standing.push("chosen".to_owned());
    }
    if candidate.weight.0 == 0 {
        standing.push("quiesced".to_owned());
    }
    if candidate.overloaded {
        standing.push(format!("overloaded (upper threshold {})", candidate.thresholds.upper));
    }
    if let Some(health) = candidate.health {
        standing.push(format!("health {}", health.word()));
    }
    if standing.is_empty() {
        standing.push("available".to_owned());
    }
    [
        candidate.address.to_string(),
        candidate.weight.to_string(),
        candidate.active.to_string(),
        candidate.inactive.to_string(),
        standing.join(", "),
    ]
}
