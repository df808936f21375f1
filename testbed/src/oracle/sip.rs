//! The Call-ID of a message, line by line.

use super::packet::{Packet, UDP};

/// The Call-ID of a datagram, or of the first fragment of one.
#[must_use]
pub fn call_id(packet: &Packet) -> Option<String> {
    if packet.protocol != UDP
        || packet.piece.is_some_and(|piece| piece.offset > 0)
        || packet.payload.len() < 8
    {
        return None;
    }
    in_message(&packet.payload[8..])
}

/// The Call-ID of a message.
#[must_use]
pub fn in_message(message: &[u8]) -> Option<String> {
    // One character for each byte, so that nothing is lost.
    let text: String = message.iter().map(|byte| char::from(*byte)).collect();
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    // What stands behind the last end of a line is no line yet.
    let mut lines: Vec<&str> = text.split('\n').collect();
    lines.pop();
    let lines: Vec<&str> = lines.into_iter().skip_while(|line| line.is_empty()).collect();
    let mut headers: Vec<String> = Vec::new();
    for line in lines.iter().skip(1).take_while(|line| !line.is_empty()) {
        match headers.last_mut() {
            // Of a Call-ID that stands in its first line, only that line counts.
            Some(last) if line.starts_with([' ', '\t']) => {
                if last.split_once(':').is_some_and(|(name, value)| is_name(name) && is_blank(value)) {
                    last.push_str(line);
                }
            }
            _ => headers.push((*line).to_owned()),
        }
    }
    let value = headers.iter().find_map(|header| {
        let (name, value) = header.split_once(':')?;
        (is_name(name) && !is_blank(value)).then(|| value.trim_matches([' ', '\t']))
    })?;
    let is_right = value.len() <= 255 && value.chars().all(|c| ('!'..='~').contains(&c));
    is_right.then(|| value.to_owned())
}

fn is_name(name: &str) -> bool {
    !name.starts_with([' ', '\t'])
        && ["call-id", "i"].contains(&name.trim_end_matches([' ', '\t']).to_ascii_lowercase().as_str())
}

fn is_blank(text: &str) -> bool {
    text.trim_matches([' ', '\t']).is_empty()
}
