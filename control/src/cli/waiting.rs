//! Pauses that Ctrl-C ends, without ending the program.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::session::Failure;

/// Waits, and knows of Ctrl-C from when it is made on.
pub(super) struct Waiting {
    runtime: tokio::runtime::Runtime,
    interrupt: Signal,
}

impl Waiting {
    pub(super) fn new() -> Result<Waiting, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(Failure::Signals)?;
        let interrupt =
            runtime.block_on(async { signal(SignalKind::interrupt()) }).map_err(Failure::Signals)?;
        Ok(Waiting { runtime, interrupt })
    }

    /// Waits so long, or until Ctrl-C, which is true.
    pub(super) fn is_interrupted(&mut self, pause: Duration) -> bool {
        let Waiting { runtime, interrupt } = self;
        runtime.block_on(async { tokio::time::timeout(pause, interrupt.recv()).await.is_ok() })
    }
}
