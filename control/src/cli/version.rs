//! `directorctl version`: who is talking to whom.

use super::session::{Failure, Session};
use crate::protocol::{Request, Version};

pub(super) fn run(session: &mut Session) -> Result<(), Failure> {
    session.show(&Request::Version {}, text).map(|_| ())
}

fn text(version: &Version) -> String {
    format!(
        "directorctl  {}\ndirector     {}\nDPDK         {}\nprotocol     {}\n",
        env!("CARGO_PKG_VERSION"),
        version.director,
        version.dpdk,
        version.protocol
    )
}
