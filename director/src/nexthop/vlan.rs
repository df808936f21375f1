//! VLAN interfaces of the kernel on ports: which tags lead to which, and which tags leave by each.

use std::collections::HashMap;

use super::{KernelView, MacAddr};
use crate::id::{IfIndex, PortId};
use crate::wire::vlan::{MOST, SERVICE, Tag, Tags};

/// A VLAN interface on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// The port that carries it.
    pub port: PortId,
    /// The tags of its frames, without priority: one of a VLAN on the port, two of a VLAN in such a VLAN.
    pub tags: Tags,
    /// The director's Ethernet address on it.
    pub mac: MacAddr,
}

/// A port and the tags on it, as one number to be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key(u64);

impl Key {
    /// VLAN 0 is none: such a tag tells but a priority (IEEE 802.1Q; Linux `__netif_receive_skb_core`). `None` where
    /// no other tag is left.
    fn of(port: PortId, tags: Tags) -> Option<Key> {
        let kind = |tag: &Tag| u64::from(tag.id()) | if tag.tpid == SERVICE { 1 << 12 } else { 0 };
        let real = tags.as_slice().iter().filter(|tag| tag.id() != 0);
        let tags = real.fold(0, |key, tag| key << 16 | kind(tag));
        (tags != 0).then_some(Key(u64::from(port.0) << 32 | tags))
    }
}

/// The VLAN interfaces of all ports. Each has a number among the ways out, behind those of the ports.
#[derive(Debug, Default)]
pub struct Vlans {
    list: Vec<Vlan>,
    /// Sorted; with places in `list`.
    by_tags: Vec<(Key, u8)>,
}

impl Vlans {
    /// The first number that is no port's; a director has 16 ports at most.
    pub const FIRST: u8 = 16;
    /// How many VLAN interfaces have room behind the ports.
    pub const MOST: usize = (u8::MAX - Self::FIRST) as usize + 1;

    /// Those of `view` that are up, on these ports; adds their numbers to `outs`.
    pub(super) fn build(view: &KernelView, outs: &mut HashMap<IfIndex, PortId>) -> Vlans {
        let mut vlans = Vlans::default();
        let found: Vec<(IfIndex, Vlan)> = view
            .links
            .iter()
            .filter(|(link, _)| !outs.contains_key(link))
            .filter_map(|(link, of)| Some((*link, Vlan { mac: of.mac?, ..place(view, outs, *link)? })))
            .collect();
        if found.len() > Vlans::MOST {
            tracing::warn!(
                "{} VLAN interfaces are on ports, and {} are used: the others have no way out, and what comes by them \
                 is the kernel's",
                found.len(),
                Vlans::MOST
            );
        }
        for (at, (link, vlan)) in (0u8..).zip(found.into_iter().take(Vlans::MOST)) {
            let Some(key) = Key::of(vlan.port, vlan.tags) else { continue };
            vlans.by_tags.push((key, at));
            vlans.list.push(vlan);
            outs.insert(link, PortId(Vlans::FIRST + at));
        }
        vlans.by_tags.sort_unstable();
        vlans
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The one that such a way out is; `None` of a port.
    pub fn get(&self, out: PortId) -> Option<&Vlan> {
        self.list.get(usize::from(out.0.checked_sub(Vlans::FIRST)?))
    }

    /// The one whose frames come in by a port with these tags.
    pub fn find(&self, port: PortId, tags: Tags) -> Option<&Vlan> {
        let key = Key::of(port, tags)?;
        let at = self.by_tags.binary_search_by_key(&key, |(key, _)| *key).ok()?;
        self.list.get(usize::from(self.by_tags[at].1))
    }

    /// Whether frames with these tags are known on a port: as a VLAN interface's, or, where the tags tell but a
    /// priority, as the port's own.
    pub fn knows(&self, port: PortId, tags: Tags) -> bool {
        Key::of(port, tags).is_none() || self.find(port, tags).is_some()
    }
}

/// Where a VLAN interface is, without its address: its tags down to a port. `None` where it is no VLAN interface, or on
/// none of the ports, or something on the way is down or has more tags than are told apart.
fn place(view: &KernelView, ports: &HashMap<IfIndex, PortId>, link: IfIndex) -> Option<Vlan> {
    let (mut inside_out, mut at) = (Vec::new(), link);
    while !ports.contains_key(&at) {
        let link = view.links.get(&at).filter(|link| link.up && inside_out.len() < MOST)?;
        let vlan = link.vlan.filter(|vlan| vlan.tag.id() != 0)?;
        inside_out.push(vlan.tag);
        at = vlan.parent;
    }
    inside_out.reverse();
    Some(Vlan { port: ports[&at], tags: Tags::new(&inside_out)?, mac: MacAddr::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nexthop::{Link, VlanLink};
    use crate::wire::vlan::CUSTOMER;

    fn tag(tpid: u16, tci: u16) -> Tag {
        Tag { tpid, tci }
    }

    fn link(vlan: Option<(u32, Tag)>) -> Link {
        Link {
            name: "x".into(),
            mac: Some(MacAddr([2, 0, 0, 0, 0, 1])),
            mtu: 1500,
            up: true,
            vlan: vlan.map(|(parent, tag)| VlanLink { parent: IfIndex(parent), tag }),
        }
    }

    fn view(links: &[(u32, Option<(u32, Tag)>)]) -> KernelView {
        let links = links.iter().map(|(index, vlan)| (IfIndex(*index), link(*vlan)));
        KernelView { links: links.collect(), ..KernelView::default() }
    }

    fn ports(links: &[u32]) -> HashMap<IfIndex, PortId> {
        (0..).zip(links).map(|(port, link)| (IfIndex(*link), PortId(port))).collect()
    }

    fn tags(tags: &[Tag]) -> Tags {
        Tags::new(tags).unwrap()
    }

    #[test]
    fn tags_lead_down_to_a_port_by_one_parent_or_two() {
        let (c, s) = (tag(CUSTOMER, 100), tag(SERVICE, 100));
        let view = view(&[
            (1, None),
            (2, None),
            (3, Some((2, c))),
            (4, Some((2, s))),
            (5, Some((4, c))),
            (6, Some((3, c))),
            // On an interface that is no port, and deeper than two tags.
            (7, None),
            (8, Some((7, c))),
            (9, Some((5, c))),
        ]);
        let mut outs = ports(&[1, 2]);
        let vlans = Vlans::build(&view, &mut outs);
        for (link, expected) in [(3, &[c][..]), (4, &[s]), (5, &[s, c]), (6, &[c, c])] {
            let found = vlans.find(PortId(1), tags(expected)).unwrap();
            assert_eq!((found.port, found.tags), (PortId(1), tags(expected)));
            assert_eq!(vlans.get(outs[&IfIndex(link)]), Some(found));
        }
        assert!([7, 8, 9].iter().all(|link| !outs.contains_key(&IfIndex(*link))));
        assert_eq!(vlans.get(PortId(1)), None);
        assert_eq!(vlans.find(PortId(0), tags(&[c])), None, "of another port");
        assert_eq!(vlans.find(PortId(1), tags(&[c, s])), None, "the other way round");
        assert!(!vlans.knows(PortId(1), tags(&[tag(CUSTOMER, 101)])));
    }

    #[test]
    fn a_priority_makes_no_difference_and_vlan_0_is_none() {
        let vlans = Vlans::build(&view(&[(1, None), (2, Some((1, tag(CUSTOMER, 100))))]), &mut ports(&[1]));
        let found = |of: &[Tag]| vlans.find(PortId(0), tags(of)).is_some();
        assert!(found(&[tag(CUSTOMER, 0xe064)]));
        assert!(found(&[tag(CUSTOMER, 0xe000), tag(CUSTOMER, 100)]));
        assert!(!found(&[tag(CUSTOMER, 0xe000)]) && vlans.knows(PortId(0), tags(&[tag(CUSTOMER, 0xe000)])));
        assert!(vlans.knows(PortId(0), Tags::NONE));
    }

    #[test]
    fn what_is_down_or_goes_in_circles_is_nowhere() {
        let c = tag(CUSTOMER, 5);
        let mut view =
            view(&[(1, None), (2, Some((1, c))), (3, Some((2, c))), (4, Some((5, c))), (5, Some((4, c)))]);
        view.links.get_mut(&IfIndex(2)).unwrap().up = false;
        assert!(Vlans::build(&view, &mut ports(&[1])).is_empty());
    }

    #[test]
    fn those_beyond_the_numbers_have_no_way_out() {
        let vlan = |n: u16| (u32::from(n) + 1, Some((1, tag(CUSTOMER, n))));
        let links: Vec<_> = [(1, None)].into_iter().chain((1..=300).map(vlan)).collect();
        let mut outs = ports(&[1]);
        let vlans = Vlans::build(&view(&links), &mut outs);
        assert_eq!(outs.len(), 1 + Vlans::MOST);
        assert!(vlans.get(PortId(u8::MAX)).is_some());
        assert!(!vlans.knows(PortId(0), tags(&[tag(CUSTOMER, 300)])));
    }
}
