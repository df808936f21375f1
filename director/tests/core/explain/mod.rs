//! What `explain` says is what the data path does.

mod agreement;
mod faults;

use std::net::SocketAddr;
use std::sync::Arc;

use control::health::Standing;
use control::model::{Protocol, Service, ServiceKey};
use control::protocol::{Explanation, PacketSketch, TcpFlag};
use director::explain::{Question, View};
use director::pipeline::Impression;
use director::pipeline::rehearsal::{Rehearsed, Shared};

use crate::world::World;

pub fn sketch(protocol: Protocol, from: SocketAddr, to: SocketAddr) -> PacketSketch {
    PacketSketch {
        protocol,
        from,
        to,
        flags: None,
        chunk: None,
        size: None,
        ttl: None,
        df: None,
        dscp: None,
        port: None,
        call_id: None,
    }
}

/// A segment of TCP with these flags.
pub fn tcp(from: &str, to: &str, flags: &[TcpFlag]) -> PacketSketch {
    let ends = [from, to].map(|end| end.parse().unwrap());
    PacketSketch { flags: Some(flags.to_vec()), ..sketch(Protocol::Tcp, ends[0], ends[1]) }
}

fn shared(world: &World) -> Shared<'_> {
    Shared { snapshot: &world.snapshot, fleet: &world.fleet, templates: &world.templates }
}

fn ask(world: &World, sketch: &PacketSketch) -> (Question, Impression) {
    let lcores = world.pipelines.len() as u8;
    let question = Question::new(sketch.clone(), &world.snapshot, lcores).unwrap();
    let mut impression = question.impression(&world.snapshot);
    let lcore = &world.pipelines[usize::from(question.lcore().0)];
    lcore.impress(&world.snapshot, world.now, &mut impression);
    assert_eq!(impression.version, world.snapshot.version);
    (question, impression)
}

/// What is said of a packet.
pub fn explain(world: &World, sketch: &PacketSketch) -> Explanation {
    let (question, impression) = ask(world, sketch);
    let configured = |key: ServiceKey| world.services.get(&key).cloned();
    let view = View { shared: shared(world), standing: &|_, _| None, configured: &configured };
    question.answer(&impression, &view).unwrap()
}

/// What is said of a packet where health has made of a service what there is.
pub fn explain_with(
    world: &World,
    sketch: &PacketSketch,
    standing: &dyn Fn(ServiceKey, SocketAddr) -> Option<Standing>,
    service: &Service,
) -> Explanation {
    let (question, impression) = ask(world, sketch);
    let configured = |_| Some(Arc::new(service.clone()));
    let view = View { shared: shared(world), standing, configured: &configured };
    question.answer(&impression, &view).unwrap()
}

/// The frame of a packet, and what would become of it.
pub fn rehearse(world: &World, sketch: &PacketSketch) -> (Vec<u8>, Rehearsed) {
    let (question, impression) = ask(world, sketch);
    question.rehearse(&impression, shared(world)).unwrap()
}
