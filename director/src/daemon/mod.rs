//! The daemon: from a configuration to running lcores, and back to nothing.
//!
//! Four kinds of threads: worker lcores, the slow path, the one that makes health checks, and this one,
//! which runs everything that an operator talks to on a single-threaded tokio runtime.

mod controller;
mod drains;
mod estimates;
mod listing;
mod requests;
mod start;
mod templates;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use control::config::Config;
use control::health::{Board, Runner};
use control::protocol::Server;
use tokio::signal::unix::{SignalKind, signal};

use crate::dpdk::close_on_exec;
use crate::nexthop::Neighbour;
use crate::stats::Estimator;
use controller::Controller;
pub use start::StartError;

/// How often the control thread looks for wishes of lcores and for snapshots that came back.
const HOUSEKEEPING: Duration = Duration::from_millis(1);
/// How often weights on their way up are looked at.
const SLOW_START: Duration = Duration::from_millis(250);
/// How often connections of real servers that are drained are counted.
const DRAINS: Duration = Duration::from_millis(250);
/// How often the neighbours that lead to real servers are kept fresh. Shorter than the kernel needs to
/// forget a neighbour that it does not use itself.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Runs a director until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps it from starting, or a worker lcore that ended by itself.
pub fn run(config: &Config, file: &Path) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| StartError::Runtime(error.to_string()))?;
    runtime.block_on(async {
        // First, so that a second director on one configuration ends before it touches a port.
        let server = Server::bind(&config.socket)?;
        let mut terminate =
            signal(SignalKind::terminate()).map_err(|e| StartError::Runtime(e.to_string()))?;
        let mut interrupt =
            signal(SignalKind::interrupt()).map_err(|e| StartError::Runtime(e.to_string()))?;

        let mut started = start::start(config).await?;
        // Unlike this thread, which floats over all CPUs, its own keeps off the workers', and so do the
        // programs that it starts.
        let (runner, mut reports) = if config.health.is_empty() {
            (None, tokio::sync::mpsc::unbounded_channel().1)
        } else {
            close_on_exec();
            let (runner, reports) =
                Runner::new(&started.worker_cpus()).map_err(|e| StartError::Runtime(e.to_string()))?;
            (Some(runner), reports)
        };
        let board = Board::new(config.health.clone(), runner);
        let controller = Arc::new(Controller::new(&mut started, config, board));
        controller.publish_first()?;
        started.launch()?;
        controller.settle().await;
        controller.state().board.begin().map_err(|e| StartError::Runtime(e.to_string()))?;

        let (stop_serving, served) = tokio::sync::oneshot::channel::<()>();
        let serving = tokio::spawn(server.serve(controller.clone(), async {
            let _ = served.await;
        }));
        tracing::info!(file = %file.display(), socket = %config.socket.display(), "director is ready");

        let mut view = started.netlink().view();
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut keep_alive = tokio::time::interval(KEEP_ALIVE);
        let mut slow_start = tokio::time::interval(SLOW_START);
        let mut drains = tokio::time::interval(DRAINS);
        let mut news = Vec::new();
        let mut estimation = tokio::time::interval(Estimator::INTERVAL);
        let ended = loop {
            tokio::select! {
                _ = terminate.recv() => break Ok("SIGTERM"),
                _ = interrupt.recv() => break Ok("SIGINT"),
                Ok(()) = view.changed() => controller.kernel_changed(),
                _ = housekeeping.tick() => {
                    for neighbour in started.wanted() {
                        controller.resolve(neighbour).await;
                    }
                    controller.collect();
                    if let Some(dead) = started.dead_worker() {
                        break Err(dead);
                    }
                }
                // What comes at once changes what runs at once.
                count = reports.recv_many(&mut news, usize::MAX), if !config.health.is_empty() => {
                    if count > 0 {
                        controller.health_changed(&news);
                        news.clear();
                    }
                }
                _ = slow_start.tick() => controller.health_changed(&[]),
                _ = drains.tick() => controller.count_drains(),
                _ = estimation.tick() => controller.estimate(),
                _ = keep_alive.tick() => {
                    for neighbour in controller.next_hops() {
                        controller.resolve(neighbour).await;
                    }
                }
            }
        };
        let _ = stop_serving.send(());
        let _ = serving.await;
        match ended {
            Ok(signal) => {
                tracing::info!(signal, "stopping");
                started.stop()
            }
            Err(worker) => {
                let reason = started.stop();
                reason.and(Err(StartError::WorkerEnded(worker)))
            }
        }
    })
}

/// A neighbour for log lines.
fn name_of(neighbour: &Neighbour) -> String {
    format!("{} on interface {}", neighbour.ip, neighbour.link.0)
}
