//! `directorctl capture`: packets as they came and as they left, for Wireshark and its kin.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clap::Args;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::{DataLink, Endianness, PcapError};

use super::output;
use super::session::{Failure, Session};
use super::values::{self, ProtocolArg};
use super::waiting::Waiting;
use crate::model::ServiceKey;
use crate::protocol::{
    CaptureFilter, CapturePage, CaptureStarted, CapturedFrame, CapturedPacket, Done, MAX_CAPTURE_SECONDS,
    MAX_SNAPLEN, MIN_SNAPLEN, Request,
};

/// How long nothing is asked for after there was nothing.
const PAUSE: Duration = Duration::from_millis(50);
/// Units of a time stamp as a negative power of ten: nanoseconds.
const NANOSECONDS: u8 = 9;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Only this transport protocol
    #[arg(long, visible_alias = "protocol")]
    proto: Option<ProtocolArg>,

    /// Only of this client, whatever its port: 192.0.2.7
    #[arg(long, value_name = "ADDRESS")]
    client: Option<IpAddr>,

    /// Only of this virtual service, answers included: tcp,10.99.0.1:80 or mark,1
    #[arg(long, value_name = "PROTOCOL,VIRTUAL", value_parser = values::service)]
    service: Option<ServiceKey>,

    /// Only to and from this real server: 10.0.2.11:8080
    #[arg(long, value_name = "SERVER", value_parser = values::address_with_port)]
    server: Option<SocketAddr>,

    /// End after so many packets, each of them as it came and as it left
    #[arg(long, short = 'c', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// End after so many seconds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_CAPTURE_SECONDS)))]
    seconds: Option<u32>,

    /// Keep so many bytes of each frame [default: 65535]
    #[arg(long, short = 's', value_name = "BYTES",
          value_parser = clap::value_parser!(u32).range(i64::from(MIN_SNAPLEN)..=i64::from(MAX_SNAPLEN)))]
    snaplen: Option<u32>,

    /// Write to this file instead of standard output (-)
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    write: String,
}

pub(super) fn run(options: Options, session: &mut Session) -> Result<(), Failure> {
    let mut target = Target::of(&options.write, session.is_json())?;
    // From here on Ctrl-C ends the capture, not us.
    let mut waiting = Waiting::new()?;
    let started: CaptureStarted = session.ask(&Request::CaptureStart {
        filter: CaptureFilter {
            protocol: options.proto.map(Into::into),
            client: options.client,
            service: options.service,
            server: options.server,
        },
        count: options.count,
        seconds: options.seconds,
        snaplen: options.snaplen,
    })?;
    let result = read(started, &mut target, &mut waiting, session);
    if result.is_err() {
        // Nobody reads it any more. What went wrong before is what the user has to know.
        let _ = stop(started, session);
    }
    result
}

fn read(
    started: CaptureStarted,
    target: &mut Target,
    waiting: &mut Waiting,
    session: &mut Session,
) -> Result<(), Failure> {
    let request = Request::CaptureRead { capture: started.capture };
    target.begin(started.snaplen)?;
    let mut is_stopped = false;
    loop {
        let ok: serde_json::Value = session.ask(&request)?;
        let page: CapturePage = session.read(&request, ok.clone())?;
        target.put(&page, &ok, session)?;
        if page.ended.is_some() {
            let CapturePage { captured, lost, .. } = page;
            if !session.is_json() {
                eprintln!("{captured} packets captured, {lost} lost for want of room");
            }
            return Ok(());
        }
        let pause = if page.packets.is_empty() { PAUSE } else { Duration::ZERO };
        if !is_stopped && waiting.is_interrupted(pause) {
            stop(started, session)?;
            is_stopped = true;
        }
    }
}

fn stop(started: CaptureStarted, session: &mut Session) -> Result<(), Failure> {
    session.ask(&Request::CaptureStop { capture: started.capture }).map(|_: Done| ())
}

/// Where packets go.
enum Target {
    /// To standard output, as they came.
    Json,
    /// To a file.
    Pcapng { writer: Box<dyn Write>, name: String },
    /// The same, once it is begun.
    Begun(Pcapng),
}

impl Target {
    fn of(name: &str, json: bool) -> Result<Target, Failure> {
        let refuse = |why: &str| Err(Failure::Otherwise(why.to_owned()));
        if json {
            return if name == "-" {
                Ok(Target::Json)
            } else {
                refuse("with --json packets go to standard output; leave out --write, or --json")
            };
        }
        let writer: Box<dyn Write> = if name == "-" {
            if io::stdout().is_terminal() {
                return refuse(
                    "pcapng is not for a terminal; give --write FILE, or pipe it: | tshark -r -, | wireshark -k -i -",
                );
            }
            Box::new(io::stdout())
        } else {
            Box::new(File::create(name).map_err(|error| Failure::File(name.to_owned(), error))?)
        };
        Ok(Target::Pcapng { writer, name: name.to_owned() })
    }

    fn begin(&mut self, snaplen: u32) -> Result<(), Failure> {
        if let Target::Pcapng { writer, name } = std::mem::replace(self, Target::Json) {
            *self = Target::Begun(Pcapng::begin(writer, name, snaplen)?);
        }
        Ok(())
    }

    fn put(&mut self, page: &CapturePage, ok: &serde_json::Value, session: &Session) -> Result<(), Failure> {
        if let Target::Begun(pcapng) = self {
            return page
                .packets
                .iter()
                .try_for_each(|packet| pcapng.packet(packet, session))
                .and_then(|()| pcapng.flush());
        }
        if page.packets.is_empty() && page.ended.is_none() {
            return Ok(());
        }
        output::print(format!("{ok}\n").as_bytes())
    }
}

/// A file in pcapng: an interface for each port and direction, written when it is first needed.
struct Pcapng {
    writer: PcapNgWriter<BufWriter<Box<dyn Write>>>,
    name: String,
    snaplen: u32,
    interfaces: Vec<(String, Way)>,
}

/// Which way a frame crosses a port; the number is that of pcapng's flags.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    In = 1,
    Out = 2,
}

impl Pcapng {
    fn begin(writer: Box<dyn Write>, name: String, snaplen: u32) -> Result<Pcapng, Failure> {
        let program = concat!("directorctl ", env!("CARGO_PKG_VERSION"));
        let section = SectionHeaderBlock {
            endianness: Endianness::native(),
            options: vec![SectionHeaderOption::UserApplication(Cow::Borrowed(program))],
            ..SectionHeaderBlock::default()
        };
        let writer = PcapNgWriter::with_section_header(BufWriter::new(writer), section)
            .map_err(|error| failure(&name, error))?;
        Ok(Pcapng { writer, name, snaplen, interfaces: Vec::new() })
    }

    fn packet(&mut self, packet: &CapturedPacket, session: &Session) -> Result<(), Failure> {
        self.frame(packet, &packet.came, Way::In, session)?;
        packet.left.iter().try_for_each(|left| self.frame(packet, left, Way::Out, session))
    }

    fn frame(
        &mut self,
        packet: &CapturedPacket,
        frame: &CapturedFrame,
        way: Way,
        session: &Session,
    ) -> Result<(), Failure> {
        let interface = self.interface(&frame.port, way)?;
        let data = BASE64_STANDARD
            .decode(&frame.bytes)
            .map_err(|error| session.bad_reply(format!("capture.read: a frame is not Base64: {error}")))?;
        let block = EnhancedPacketBlock {
            interface_id: interface,
            timestamp: Duration::new(packet.seconds, packet.nanoseconds),
            original_len: frame.len,
            data: Cow::Owned(data),
            options: vec![
                EnhancedPacketOption::Comment(Cow::Borrowed(&packet.reason)),
                EnhancedPacketOption::Flags(way as u32),
            ],
        };
        self.writer.write_pcapng_block(block).map(|_| ()).map_err(|error| failure(&self.name, error))
    }

    fn interface(&mut self, port: &str, way: Way) -> Result<u32, Failure> {
        if let Some(at) = self.interfaces.iter().position(|(name, its)| name == port && *its == way) {
            return Ok(at as u32);
        }
        let word = if way == Way::In { "in" } else { "out" };
        let block = InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: self.snaplen,
            options: vec![
                InterfaceDescriptionOption::IfName(Cow::Owned(format!("{port} {word}"))),
                InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
            ],
        };
        self.writer.write_pcapng_block(block).map_err(|error| failure(&self.name, error))?;
        self.interfaces.push((port.to_owned(), way));
        Ok(self.interfaces.len() as u32 - 1)
    }

    /// So that whoever reads along sees it now.
    fn flush(&mut self) -> Result<(), Failure> {
        self.writer.get_mut().flush().map_err(|error| failure(&self.name, PcapError::IoError(error)))
    }
}

fn failure(name: &str, error: PcapError) -> Failure {
    match error {
        PcapError::IoError(error) if name == "-" => error.into(),
        PcapError::IoError(error) => Failure::File(name.to_owned(), error),
        other => Failure::Otherwise(format!("cannot write pcapng: {other}")),
    }
}
