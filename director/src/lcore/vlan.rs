//! VLAN tags, taken off behind the port and put on in front of it: the pipeline sees no tagged frame of a VLAN interface
//! that the kernel has.

use crate::id::PortId;
use crate::nexthop::Vlans;
use crate::packet::PacketBuf;
use crate::wire::vlan::{self, Tags};

/// Takes the tags off frames of VLANs that are known on their port, and leaves them beside the frames; those of other
/// VLANs stay tagged, or become so again where a NIC took the tag off, and are the kernel's.
#[cold]
#[inline(never)]
pub(super) fn take_off<P: PacketBuf>(burst: &mut [P], port: PortId, vlans: &Vlans) {
    for packet in burst {
        let carried = packet.tags();
        let tags = vlan::read(packet.bytes(), carried);
        if tags.is_empty() {
            continue;
        }
        if vlans.knows(port, tags) {
            vlan::remove(packet, tags.bytes() - carried.bytes());
            packet.set_tags(tags);
        } else {
            // Without room in front of it, it will be lost where it is punted, by that name.
            let _ = vlan::restore(packet);
        }
    }
}

/// Puts on the tags of the VLAN interface that `out` is, and says by which port it leaves. `None` where there is no
/// room in front of the frame.
#[cold]
#[inline(never)]
pub(super) fn put_on<P: PacketBuf>(packet: &mut P, out: PortId, vlans: &Vlans) -> Option<PortId> {
    let vlan = vlans.get(out)?;
    // Those that it came with are no longer its own, and net_ring would pass them on.
    packet.set_tags(Tags::NONE);
    vlan::insert(packet, vlan.tags).then_some(vlan.port)
}
