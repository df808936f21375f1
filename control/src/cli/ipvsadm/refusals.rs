//! A director's refusals in ipvsadm's words: what a kernel would have answered, and how ipvsadm tells it.

use std::io;

use super::command::Command;
use crate::protocol::ClientError;

/// What a kernel says to what it cannot do.
pub(super) const INVALID: &str =
    "Invalid operation.  Possibly wrong module version, address not unicast, ...";
/// What it says to a scheduler or a persistence engine that it does not know.
pub(super) const NO_SCHEDULER: &str = "Scheduler or persistence engine not found";
pub(super) const NO_SERVICE: &str = "No such service";
pub(super) const SERVICE_EXISTS: &str = "Service already exists";
/// There is no daemon of Director's, so that none can be stopped.
pub(super) const NO_DAEMON: &str = "No daemon is running";

/// What ipvsadm says when this command was refused.
pub(super) fn words(command: &Command, error: &ClientError) -> String {
    let refusal = match error {
        ClientError::Refused(refusal) => refusal,
        other => return other.to_string(),
    };
    let about_server =
        matches!(command, Command::AddServer(..) | Command::EditServer(..) | Command::DeleteServer(..));
    match refusal.code.as_str() {
        "service-exists" => SERVICE_EXISTS,
        "no-such-service" if about_server => "Service not defined",
        "no-such-service" => NO_SERVICE,
        "server-exists" => "Destination already exists",
        "no-such-server" => "No such destination",
        "not-permitted" => "Permission denied (you must be root)",
        "limit-reached" | "too-many-removed-servers" => "Memory allocation problem",
        // What the C library calls ERANGE.
        "thresholds" => "Numerical result out of range",
        _ => INVALID,
    }
    .to_owned()
}

/// What ipvsadm says when there is nobody to ask.
pub(super) fn nobody(error: &ClientError) -> String {
    match error {
        ClientError::NotAllowed { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            "Permission denied (you must be root)".to_owned()
        }
        other => format!("Can't initialize ipvs: {other}"),
    }
}
