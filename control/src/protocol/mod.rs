//! The control protocol: one JSON object per line over a Unix socket, its server and its client.
//!
//! `docs/protocol.md` describes it for people who write their own client.

mod bind;
mod capture;
mod client;
mod codec;
mod config;
mod connection;
mod drain;
mod explain;
mod health;
mod histograms;
mod inforce;
mod latency;
mod options;
mod rates;
mod reasons;
mod reply;
mod request;
mod server;
mod strict;
mod template;

pub use bind::BindError;
pub use capture::{
    CaptureEnd, CaptureFilter, CapturePage, CaptureStarted, CapturedFrame, CapturedPacket,
    MAX_CAPTURE_SECONDS, MAX_SNAPLEN, MIN_SNAPLEN,
};
pub use client::{Client, ClientError, DEFAULT_SOCKET, DEFAULT_TIMEOUT};
pub use codec::{
    BadReply, Envelope, Framer, LineTooLong, MAX_LONG_LINE, MAX_REPLY_LINE, MAX_REQUEST_LINE,
    PROTOCOL_VERSION, Rejected, ReplyLine, decode_reply, decode_request, encode_reply, encode_request,
};
pub use config::{Applied, ConfigDiff, ConfigHistory};
pub use drain::{DEFAULT_DEADLINE, DrainList, DrainStatus};
pub use explain::{
    CandidateStatus, Explanation, ExplanationStep, LeavingPacket, Missing, NextHopStatus, PacketSketch,
    SctpChunk, TcpFlag,
};
pub use health::{CheckHealth, HealthList, ServerHealth, ServiceHealth};
pub use histograms::{HistogramList, LatencyHistogram};
pub use inforce::{SettingsList, TimeoutsInForce};
pub use latency::{LatencyBucket, LatencyDistribution, LatencySummary};
pub use options::{Off, PersistenceChange, PersistenceOptions};
pub use rates::{RateList, Rates, ServerRates, ServiceRates};
pub use reasons::{Outcome, ReasonList, ReasonStatus};
pub use reply::{
    ConnectionList, ConnectionStatus, Counters, Done, Latency, LcoreStats, PortStats, Refusal, Reply,
    ServerStatus, ServiceList, ServiceStatus, Stats, Version,
};
pub use request::{ConnectionFilter, DEFAULT_PAGE, MAX_PAGE, Request};
pub use server::{Handler, Limits, Peer, Server, may_change};
pub use template::{TemplateFilter, TemplateList, TemplateStatus};
