//! The status page: one document that brings everything along.

use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use hyper::header::{self, HeaderValue};

use super::http::typed;

const DOCUMENT: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/page.js");

/// The page. Nothing in it comes from the director; what does is asked for by the script, and put in as text.
pub(super) fn answer() -> Response<Full<Bytes>> {
    let nonce = nonce();
    let mut answer = typed("text/html; charset=utf-8", document(&nonce));
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    answer
}

fn document(nonce: &str) -> String {
    // The script last: what it says is not looked through for the other names.
    DOCUMENT.replace("{{nonce}}", nonce).replace("{{style}}", STYLE).replace("{{script}}", SCRIPT)
}

/// What nobody else can know, so that only this page's own script runs.
fn nonce() -> String {
    let mut bytes = [0_u8; 16];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    // The kernel gives up to 256 bytes at once, as soon as it has collected any randomness at all.
    assert_eq!(filled, Ok(bytes.len()), "the kernel has no random bytes");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_whole_and_fetches_nothing() {
        let document = document("0123");
        assert!(!document.contains("{{"), "something was not filled in");
        assert_eq!(document.matches("nonce=\"0123\"").count(), 2, "the style and the script");
        for outside in ["http://", "https://", "src=", "@import", "url("] {
            let allowed =
                document.matches("http://www.w3.org/2000/svg").count() * usize::from(outside == "http://");
            assert_eq!(document.matches(outside).count(), allowed, "{outside}");
        }
        // What the director says is text wherever it stands.
        for way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "style=\""] {
            assert!(!document.contains(way), "{way}");
        }
    }

    #[test]
    fn no_nonce_comes_twice() {
        let (one, other) = (nonce(), nonce());
        assert_eq!(one.len(), 32);
        assert_ne!(one, other);
    }
}
