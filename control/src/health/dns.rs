//! A question by DNS over UDP, written and read by the crate `domain`.

use std::net::SocketAddr;

use domain::base::iana::Rcode;
use domain::base::{Message, MessageBuilder};

use super::runner::{Progress, random};
use super::{Dns, Failure, udp};

/// Passes with an answer without error that has a record.
pub(super) async fn check(address: SocketAddr, dns: &Dns, progress: &Progress) -> Result<(), Failure> {
    let socket = udp::socket(address).await?;
    let mut question = MessageBuilder::new_vec();
    question.header_mut().set_id(random() as u16);
    question.header_mut().set_rd(true);
    let mut question = question.question();
    question.push((&dns.name, dns.record)).map_err(|error| format!("no such question: {error}"))?;
    let question = question.into_message();
    socket.send(question.as_slice()).await.map_err(|error| Failure::of_system("cannot send", error))?;
    progress.at("waiting for the DNS answer");
    let mut buffer = vec![0; 65_535];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(|error| format!("ICMP: {error}"))?;
        // What answers another question is late, or not from the real server.
        let Ok(answer) = Message::from_octets(&buffer[..length]) else { continue };
        if answer.header().id() != question.header().id() || !answer.header().qr() {
            continue;
        }
        // Not all servers repeat the question of one that they refuse.
        return match answer.header().rcode() {
            Rcode::NOERROR if !answer.is_answer(&question) => continue,
            // A truncated answer may have no record, but there are some.
            Rcode::NOERROR if answer.header_counts().ancount() > 0 || answer.header().tc() => Ok(()),
            Rcode::NOERROR => Err("the answer has no record".into()),
            error => Err(format!("DNS: {error}").into()),
        };
    }
}
