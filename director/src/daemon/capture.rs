//! Captures of packets: what `directorctl capture` asks for. One at a time; the lcores copy, the control thread hands out.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use control::protocol::{
    CaptureEnd, CaptureFilter, CapturePage, CaptureStarted, CapturedFrame, CapturedPacket,
    MAX_CAPTURE_SECONDS, MAX_SNAPLEN, MIN_SNAPLEN, Refusal, Reply,
};

use super::controller::Controller;
use crate::connection::protocol_number;
use crate::id::PortId;
use crate::lcore::capture::{self, Captured, Wanted};
use crate::lcore::clock::Nanos;
use crate::lcore::query::{ConnectionFilter, Query, QueryBox};

/// Room for packets that are still to be read, on each lcore, in bytes.
const RING: usize = 4 << 20;
/// After so many bytes of frames a page is full.
const PAGE: usize = 1 << 20;
/// A capture that nobody has read for so long is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// The capture that runs, if one does.
#[derive(Default)]
pub(super) struct Captures {
    /// The number of the last one.
    last: u64,
    running: Option<Running>,
}

/// A capture, until all of it is read.
struct Running {
    number: u64,
    /// By lcore.
    lcores: Vec<Captured>,
    until: Nanos,
    /// When the clock of the lcores showed nothing, since 1970.
    epoch: Duration,
    /// Packets that may still be handed out.
    left: u64,
    handed_out: u64,
    /// The lcores capture no longer.
    ended: Option<CaptureEnd>,
    last_read: Instant,
}

impl Captures {
    fn get(&mut self, number: u64) -> Result<&mut Running, Refusal> {
        let message = || format!("there is no capture {number}, or it is over");
        let remedy = "start one with capture.start, and read it more often than every 10 seconds";
        let running = self.running.as_mut().filter(|running| running.number == number);
        running.ok_or_else(|| Refusal::new("no-such-capture", message(), remedy))
    }
}

/// Starts a capture.
pub(super) async fn start(
    controller: &Controller,
    filter: CaptureFilter,
    count: Option<u64>,
    seconds: Option<u32>,
    snaplen: Option<u32>,
) -> Result<Reply, Refusal> {
    let snaplen = snaplen.unwrap_or(MAX_SNAPLEN);
    check("count", count.unwrap_or(1), 1, u64::MAX)?;
    check("seconds", seconds.unwrap_or(1).into(), 1, MAX_CAPTURE_SECONDS.into())?;
    check("snaplen", snaplen.into(), MIN_SNAPLEN.into(), MAX_SNAPLEN.into())?;
    let mut captures = controller.captures.lock().await;
    if let Some(running) = &captures.running {
        let message = format!("capture {} runs, and there is one at a time", running.number);
        let remedy = "wait until it ends; one that nobody reads ends by itself after 10 seconds";
        return Err(Refusal::new("capture-runs", message, remedy));
    }
    let now = controller.moment();
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let until = seconds.map_or(u64::MAX, |seconds| now.0 + u64::from(seconds) * 1_000_000_000);
    let wanted = Wanted {
        filter: ConnectionFilter {
            protocol: filter.protocol.map(protocol_number),
            service: filter.service,
            server: filter.server,
            client: filter.client,
            state: None,
        },
        packets: count.unwrap_or(u64::MAX),
        until: Nanos(until),
        snaplen: snaplen as usize,
        ring: RING,
    };
    let queries = controller.queries.lock().await;
    let mut lcores = Vec::new();
    for (lcore, query_box) in queries.iter().enumerate() {
        let (capturer, captured) = capture::capture(&wanted);
        if Controller::ask(query_box, Query::Capture(Some(capturer))).await.is_none() {
            withdraw(&queries[..lcore]).await;
            let message = format!("lcore {lcore} does not answer");
            return Err(Refusal::new("lcore-silent", message, "see the director's log"));
        }
        lcores.push(captured);
    }
    drop(queries);
    captures.last += 1;
    let number = captures.last;
    tracing::info!(number, ?filter, count, seconds, snaplen, "a capture of packets begins");
    captures.running = Some(Running {
        number,
        lcores,
        until: wanted.until,
        epoch: since_1970.saturating_sub(Duration::from_nanos(now.0)),
        left: wanted.packets,
        handed_out: 0,
        ended: None,
        last_read: Instant::now(),
    });
    Ok(Reply::CaptureStarted(CaptureStarted { capture: number, snaplen }))
}

/// What was captured since the last page.
pub(super) async fn read(controller: &Controller, number: u64) -> Result<Reply, Refusal> {
    let mut captures = controller.captures.lock().await;
    let running = captures.get(number)?;
    running.last_read = Instant::now();
    if controller.moment() >= running.until {
        end(controller, running, CaptureEnd::Seconds).await;
    }
    let packets = running.page(|port| name_of(controller, port));
    if running.left == 0 {
        end(controller, running, CaptureEnd::Count).await;
    }
    let is_read = running.left == 0 || running.lcores.iter().all(Captured::is_empty);
    let page = CapturePage {
        packets,
        captured: running.handed_out,
        lost: running.lcores.iter().map(|lcore| lcore.tally.lost.get()).sum(),
        ended: running.ended.filter(|_| is_read),
    };
    if page.ended.is_some() {
        tracing::info!(number, packets = page.captured, lost = page.lost, "a capture of packets has ended");
        captures.running = None;
    }
    Ok(Reply::CapturePage(page))
}

/// Ends a capture; what it has can still be read.
pub(super) async fn stop(controller: &Controller, number: u64) -> Result<Reply, Refusal> {
    let mut captures = controller.captures.lock().await;
    end(controller, captures.get(number)?, CaptureEnd::Stopped).await;
    Ok(Reply::DONE)
}

/// Gives a capture up that nobody has read for a while.
pub(super) async fn give_up_unread(controller: Arc<Controller>) {
    let mut captures = controller.captures.lock().await;
    if let Some(running) = captures.running.as_mut().filter(|running| running.last_read.elapsed() > PATIENCE)
    {
        tracing::warn!(number = running.number, "nobody reads the capture of packets: it ends");
        end(&controller, running, CaptureEnd::Stopped).await;
        captures.running = None;
    }
}

/// Lets the lcores capture no longer, unless they have ended already.
async fn end(controller: &Controller, running: &mut Running, why: CaptureEnd) {
    if running.ended.is_none() {
        withdraw(&controller.queries.lock().await).await;
        running.ended = Some(why);
    }
}

/// Takes back what captures. What a silent lcore has does nothing once nobody holds its other end.
async fn withdraw(queries: &[Arc<QueryBox>]) {
    for query_box in queries {
        Controller::ask(query_box, Query::Capture(None)).await;
    }
}

fn check(what: &str, value: u64, least: u64, most: u64) -> Result<(), Refusal> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let message = format!("a capture cannot have a {what} of {value}");
    let remedy = if most == u64::MAX {
        format!("give {least} or more")
    } else {
        format!("give from {least} to {most}")
    };
    Err(Refusal::new("bad-bound", message, remedy))
}

/// A port as Wireshark is to show it.
fn name_of(controller: &Controller, port: PortId) -> String {
    let open = controller.ports.get(usize::from(port.0));
    let name = open.map(|open| open.interface.clone().unwrap_or_else(|| open.port.device().into()));
    name.unwrap_or_else(|| format!("port {}", port.0))
}

impl Running {
    /// What there is, by time, until a page is full.
    fn page(&mut self, name_of: impl Fn(PortId) -> String) -> Vec<CapturedPacket> {
        let mut found = Vec::new();
        let (share, mut left) = (PAGE / self.lcores.len().max(1), self.left);
        for (lcore, captured) in (0u8..).zip(&mut self.lcores) {
            let mut bytes = 0;
            while bytes < share
                && left > 0
                && let Some(packet) = captured.pop()
            {
                bytes += packet.came.bytes.len() + packet.left.as_ref().map_or(0, |frame| frame.bytes.len());
                left -= 1;
                found.push((lcore, packet));
            }
        }
        found.sort_by_key(|(_, packet)| packet.at);
        self.left = left;
        self.handed_out += found.len() as u64;
        let frame = |frame: capture::CapturedFrame| CapturedFrame {
            port: name_of(frame.port),
            len: frame.len,
            bytes: BASE64_STANDARD.encode(frame.bytes),
        };
        let shown = found.into_iter().map(|(lcore, packet)| {
            let at = self.epoch + Duration::from_nanos(packet.at.0);
            CapturedPacket {
                seconds: at.as_secs(),
                nanoseconds: at.subsec_nanos(),
                lcore,
                reason: packet.reason.name().into(),
                came: frame(packet.came),
                left: packet.left.map(frame),
            }
        });
        shown.collect()
    }
}
