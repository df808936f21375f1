//! A packet of TCP or UDP on its way through the stages.

use crate::connection::{Address, FlowHash, FlowKey, Guess};
use crate::wire::Frame;

/// What the stages know of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow<A> {
    pub(super) frame: Frame<A>,
    /// From a port, so that this lcore need not be the one that owns it.
    pub(super) from_port: bool,
    /// Read by the short way (`usual`).
    pub(super) is_usual: bool,
    /// Not decided about yet.
    pub(super) goes_on: bool,
    pub(super) hash: FlowHash,
    pub(super) guess: Guess,
}

impl<A: Address> Flow<A> {
    /// What stands in the place of a packet that was decided about.
    pub(super) const NONE: Flow<A> = Flow {
        frame: Frame::NONE,
        from_port: false,
        is_usual: true,
        goes_on: false,
        hash: FlowHash::NONE,
        guess: Guess::NONE,
    };

    #[inline(always)]
    pub(super) fn key(&self) -> FlowKey<A> {
        FlowKey {
            source: self.frame.source,
            destination: self.frame.destination,
            source_port: self.frame.source_port(),
            destination_port: self.frame.destination_port(),
            protocol: self.frame.protocol,
        }
    }
}
