//! The Call-ID of a SIP message (RFC 3261, section 20.8).
//!
//! What is found is what Linux finds (`ip_vs_pe_sip.c`, `ct_sip_get_header` in `nf_conntrack_sip.c`): the first Call-ID
//! that is not empty, by its long name or as `i`, in any case; its value in exactly the case that it has. Lines end
//! with CR LF, or with one of both as RFC 2543 let them. Some things differ. Linux takes the characters of RFC 3261's
//! `word` alone, here it is whatever is neither blank nor control, since senders are not that strict; and blanks may
//! follow. Linux also looks for the colon in the line that follows, which RFC 3261 does not allow, and for a Call-ID in
//! the message's body, where it is no longer this message's.

/// The longest Call-ID that there is a template for, in bytes (`IP_VS_PEDATA_MAXLEN` in Linux `ip_vs.h`).
pub const MAX_CALL_ID: usize = 255;

/// The Call-ID of a message; `None` where it has none, an impossible one, one longer than [`MAX_CALL_ID`], or one that
/// does not end in what there is of the message.
pub fn call_id(message: &[u8]) -> Option<&[u8]> {
    // Some send empty lines in front to keep a way open (RFC 3261, section 7.5).
    let begin = message.iter().position(|byte| !is_line_end(*byte))?;
    let (_start_line, mut rest) = line(&message[begin..])?;
    loop {
        let (header, next) = line(rest)?;
        if header.is_empty() {
            return None;
        }
        if let Some(value) = value_of_call_id(header) {
            let (value, _) = unfolded(value, next)?;
            if !value.is_empty() {
                return is_call_id(value).then_some(value);
            }
        }
        rest = next;
    }
}

/// What stands in front of the first line's end, and what behind it; `None` where it does not end.
fn line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|byte| is_line_end(*byte))?;
    let len = if text[end..].starts_with(b"\r\n") { 2 } else { 1 };
    Some((&text[..end], &text[end + len..]))
}

/// What stands behind the colon, if the header is a Call-ID.
fn value_of_call_id(header: &[u8]) -> Option<&[u8]> {
    let colon = header.iter().position(|byte| *byte == b':')?;
    // A name begins where its line does: what begins with a blank goes on with the line before.
    let blanks = header[..colon].iter().rev().take_while(|byte| is_blank(**byte)).count();
    let name = &header[..colon - blanks];
    let is_it = name.eq_ignore_ascii_case(b"call-id") || name.eq_ignore_ascii_case(b"i");
    is_it.then_some(&header[colon + 1..])
}

/// A value without blanks around it: where it does not begin in its own line, it may in one of the next, which then
/// begin with blanks. `None` where such a line does not end.
fn unfolded<'a>(mut value: &'a [u8], mut next: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    while trimmed(value).is_empty() && next.first().is_some_and(|byte| is_blank(*byte)) {
        (value, next) = line(next)?;
    }
    Some((trimmed(value), next))
}

fn trimmed(value: &[u8]) -> &[u8] {
    let begin = value.iter().position(|byte| !is_blank(*byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_blank(*byte)).map_or(begin, |last| last + 1);
    &value[begin..end]
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

fn is_call_id(value: &[u8]) -> bool {
    value.len() <= MAX_CALL_ID && value.iter().all(u8::is_ascii_graphic)
}

fn is_line_end(byte: u8) -> bool {
    byte == b'\r' || byte == b'\n'
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(message: &str) -> Option<&str> {
        call_id(message.as_bytes()).map(|value| std::str::from_utf8(value).expect("ASCII"))
    }

    /// An INVITE with these lines in its header.
    fn invite(lines: &str) -> String {
        format!(
            "INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1\r\n{lines}Content-Length: 0\r\n\r\n"
        )
    }

    #[test]
    fn by_its_long_name_and_by_its_short_one_in_any_case() {
        for line in [
            "Call-ID: a84b4c76e66710@pc33",
            "call-id:a84b4c76e66710@pc33",
            "i: a84b4c76e66710@pc33",
            "I :\ta84b4c76e66710@pc33",
        ] {
            assert_eq!(found(&invite(&format!("{line}\r\n"))), Some("a84b4c76e66710@pc33"), "{line}");
        }
    }

    #[test]
    fn its_own_case_stays() {
        assert_eq!(found(&invite("CALL-ID: AbC@X\r\n")), Some("AbC@X"));
    }

    #[test]
    fn answers_have_one_too() {
        assert_eq!(found("SIP/2.0 200 OK\r\nCall-ID: 1@x\r\n\r\n"), Some("1@x"));
    }

    #[test]
    fn lines_end_with_cr_with_lf_or_with_both() {
        assert_eq!(found("BYE a SIP/2.0\nTo: b\nCall-ID: 1@x\n\n"), Some("1@x"));
        assert_eq!(found("BYE a SIP/2.0\rTo: b\rCall-ID: 1@x\r\r"), Some("1@x"));
        assert_eq!(found("\r\n\r\nBYE a SIP/2.0\r\nCall-ID: 1@x\r\n\r\n"), Some("1@x"));
    }

    #[test]
    fn a_folded_line_goes_on_in_the_next() {
        assert_eq!(found(&invite("Call-ID:\r\n \t1@x\r\n")), Some("1@x"));
        assert_eq!(found(&invite("Call-ID: \r\n \r\n 1@x \r\n")), Some("1@x"));
        assert_eq!(found(&invite("Subject: this is no\r\n Call-ID: 2@x\r\ni: 1@x\r\n")), Some("1@x"));
    }

    #[test]
    fn an_empty_one_is_none() {
        assert_eq!(found(&invite("Call-ID:\r\n")), None);
        assert_eq!(found(&invite("Call-ID:\r\ni: 1@x\r\n")), Some("1@x"));
    }

    #[test]
    fn neither_the_start_line_nor_the_body_has_one() {
        assert_eq!(found("Call-ID: 1@x\r\nTo: b\r\n\r\n"), None);
        assert_eq!(found("BYE a SIP/2.0\r\nTo: b\r\n\r\nCall-ID: 1@x\r\n"), None);
        assert_eq!(found("INVITE a SIP/2.0\r\nTo: b\r\n\r\ni=session\r\ni: 1@x\r\n"), None);
    }

    #[test]
    fn other_headers_are_not_it() {
        assert_eq!(
            found(&invite("Call-IDs: 1@x\r\nCall-Info: 1@x\r\nid: 1@x\r\nIn-Reply-To: 1@x\r\n")),
            None
        );
    }

    #[test]
    fn what_breaks_off_is_not_believed() {
        let message = invite("Call-ID: 1@x\r\n");
        let end = message.find("1@x").expect("it is there") + 3;
        for len in 0..message.len() {
            assert_eq!(found(&message[..len]), (len > end).then_some("1@x"), "{:?}", &message[..len]);
        }
        assert_eq!(found("BYE a SIP/2.0\r\nCall-ID:\r\n 1@x"), None);
    }

    #[test]
    fn as_long_as_ipvs_takes_them_and_no_longer() {
        for (len, fits) in [(1, true), (255, true), (256, false), (5000, false)] {
            let id = "x".repeat(len);
            let message = invite(&format!("Call-ID: {id}\r\n"));
            assert_eq!(found(&message), fits.then_some(&id[..]), "{len}");
        }
    }

    #[test]
    fn blanks_and_control_characters_within_make_it_none() {
        for id in ["1 2", "1\t2", "1\x002", "1\x7f", "1\u{e9}"] {
            assert_eq!(found(&invite(&format!("Call-ID: {id}\r\n"))), None, "{id:?}");
        }
        assert_eq!(found(&invite("Call-ID: 1==$;&2@x\r\n")), Some("1==$;&2@x"));
    }

    proptest! {
        #[test]
        fn whatever_is_found_stands_in_the_message(message in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Some(id) = call_id(&message) {
                prop_assert!(!id.is_empty() && id.len() <= MAX_CALL_ID);
                prop_assert!(message.windows(id.len()).any(|window| window == id));
            }
        }

        #[test]
        fn it_is_found_wherever_it_stands(
            before in proptest::collection::vec("[A-Hj-z][A-Za-z-]{1,12}: [ -~]{0,40}", 0..8),
            id in "[!-~]{1,255}", after in "[ -~\r\n]{0,200}",
        ) {
            let before = before.into_iter().filter(|line| !line.to_ascii_lowercase().starts_with("call-id"));
            let before: String = before.map(|line| line + "\r\n").collect();
            let message = format!("OPTIONS sip:a SIP/2.0\r\n{before}Call-ID: {id}\r\n{after}");
            prop_assert_eq!(found(&message), Some(&id[..]));
        }
    }
}
