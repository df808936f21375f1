//! What would become of a packet, asked of the lcore that would decide.

use std::net::SocketAddr;

use control::model::ServiceKey;
use control::protocol::{PacketSketch, Refusal, Reply};

use super::controller::Controller;
use crate::explain::{BadSketch, Question, View};
use crate::lcore::query::Query;
use crate::pipeline::rehearsal::Shared;

/// How often a question is asked anew that was overtaken by another snapshot.
const TRIES: usize = 50;

/// Explains a packet.
pub(super) async fn explain(controller: &Controller, packet: PacketSketch) -> Result<Reply, Refusal> {
    let queries = controller.queries.lock().await;
    let lcores = queries.len() as u8;
    for _ in 0..TRIES {
        let snapshot = controller.state().snapshot();
        let question = Question::new(packet.clone(), &snapshot, lcores).map_err(|error| refuse(&error))?;
        let lcore = question.lcore().0;
        let asked = Query::Impression(Box::new(question.impression(&snapshot)));
        let answer = match queries.get(usize::from(lcore)) {
            Some(query_box) => Controller::ask(query_box, asked).await,
            None => None,
        };
        let Some(Query::Impression(impression)) = answer else {
            let message = format!("lcore {lcore} does not answer");
            return Err(Refusal::new("lcore-silent", message, "see the director's log"));
        };
        if impression.version != snapshot.version {
            continue;
        }
        let state = controller.state();
        let standing = |service: ServiceKey, server: SocketAddr| state.board.standing(service, server);
        let configured = |service: ServiceKey| state.model.services().get(&service).cloned();
        let shared =
            Shared { snapshot: &snapshot, fleet: &controller.fleet, templates: &controller.templates };
        let view = View { shared, standing: &standing, configured: &configured };
        let explanation = question.answer(&impression, &view).map_err(|error| {
            Refusal::new("no-memory", format!("cannot try the packet out: {error}"), "free some memory")
        })?;
        return Ok(Reply::Explanation(Box::new(explanation)));
    }
    let message = "the configuration changes faster than it can be asked about".to_owned();
    Err(Refusal::new("overtaken", message, "ask again"))
}

fn refuse(error: &BadSketch) -> Refusal {
    let (code, remedy) = match error {
        BadSketch::TwoFamilies => ("two-families", "give two addresses of IPv4, or two of IPv6".to_owned()),
        BadSketch::NoSuchPort(_) => ("no-such-port", "see the ports of stats".to_owned()),
        BadSketch::TooShort(least) => ("too-short", format!("give a size of {least} at least, or none")),
        BadSketch::BadDscp(_) => ("bad-dscp", "give one from 0 to 63".to_owned()),
    };
    Refusal::new(code, error.to_string(), remedy)
}
