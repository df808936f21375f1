//! SCTP on its way to its association: what `connect` does for TCP and UDP, one packet at a time and aside, so that
//! those do not pay for it.

use control::model::ForwardingMethod;

use super::connect::is_to_be_replaced;
use super::flow::Flow;
use super::{Pipeline, Verdict};
use crate::connection::{Address, Direction, Guess, Path, State, next_association_state};
use crate::packet::PacketBuf;
use crate::service::{ServerId, Snapshot};
use crate::stats::Reason;
use crate::time::Tick;
use crate::wire::{Transport, sctp};

impl Pipeline {
    /// Decides about an SCTP packet, or a fragment of one whose ports are known.
    #[cold]
    #[inline(never)]
    pub(super) fn associate<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &mut Flow<A>,
        packet: &mut P,
    ) -> Verdict {
        // Decided about here, not with the others of the burst.
        flow.goes_on = false;
        let found = A::table(&self.tables).find(flow.hash, &flow.key(), Guess::NONE);
        let Some((id, direction)) = found else { return self.open(snapshot, now, flow, packet) };
        let connection = A::table_mut(&mut self.tables).get_mut(id);
        if connection.is_expired(now) {
            return self.open_anew(snapshot, now, flow, packet, id);
        }
        let asks = direction == Direction::Request && flow.frame.has_chunk(sctp::INIT);
        // Linux `is_new_conn_expected` in `ip_vs_core.c`.
        let is_over = connection.state == State::SctpClosed;
        if asks && is_to_be_replaced(snapshot, connection, |_| is_over) {
            return self.open_anew(snapshot, now, flow, packet, id);
        }
        if connection.server == ServerId::NONE {
            return self.bypass(snapshot, now, flow, packet, id);
        }
        let server = snapshot.server(connection.server).filter(|server| server.present);
        if direction == Direction::Request && server.is_none() {
            if snapshot.settings.expire_nodest_conn || asks {
                return self.open_anew(snapshot, now, flow, packet, id);
            }
            return Verdict::drop(Reason::ServerRemoved);
        }
        if flow.frame.transport != Transport::Sctp && connection.method == ForwardingMethod::Nat {
            return Verdict::drop(Reason::FragmentOfSctp);
        }
        let before = connection.state;
        if flow.frame.transport != Transport::LaterFragment {
            let path = match direction {
                Direction::Reply => Path::Output,
                Direction::Request if connection.is_input_only() => Path::InputOnly,
                Direction::Request => Path::Input,
            };
            connection.state = next_association_state(path, flow.frame.tcp_flags, before);
        }
        if connection.state != before {
            self.state_changed::<A>(snapshot, id, before);
        }
        match server {
            Some(server) if direction == Direction::Request => {
                self.request(snapshot, now, flow, packet, id, server)
            }
            _ => self.reply(snapshot, now, flow, packet, id),
        }
    }
}
