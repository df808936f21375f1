//! The daemon: from a configuration to running lcores, and back to nothing.
//!
//! Four kinds of threads: worker lcores, the slow path, the one that makes health checks, and this one,
//! which runs everything that an operator talks to on a single-threaded tokio runtime.

mod apply;
mod capture;
mod controller;
mod drains;
mod estimates;
mod explain;
#[cfg(test)]
mod fixture;
mod listing;
mod manager;
mod probe;
mod reasons;
mod requests;
mod signs;
mod start;
mod templates;
mod weigh;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use control::config::Config;
use control::health::{Board, Runner};
use control::protocol::Server;
use tokio::signal::unix::{SignalKind, signal};

use crate::dpdk::close_on_exec;
use crate::log;
use crate::nexthop::Neighbour;
use crate::stats::Estimator;
use apply::Applying;
use controller::Controller;
use manager::Manager;
pub use probe::probe;
pub use start::StartError;

/// How often the control thread looks for wishes of lcores and for snapshots that came back.
const HOUSEKEEPING: Duration = Duration::from_millis(1);
/// How often weights on their way up are looked at, what the data path has counted for passive checks, and connections of
/// real servers that are drained.
const FOLLOW_UP: Duration = Duration::from_millis(250);
/// How often the neighbours that lead to real servers are kept fresh. Shorter than the kernel needs to
/// forget a neighbour that it does not use itself.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Runs a director until SIGTERM or SIGINT, with a configuration and its text; SIGHUP reads the file anew.
///
/// # Errors
/// What keeps it from starting, or a worker lcore that ended by itself.
pub fn run(config: &Config, text: &str, file: &Path) -> Result<(), StartError> {
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

        let mut hangup = signal(SignalKind::hangup()).map_err(|e| StartError::Runtime(e.to_string()))?;

        let mut started = start::start(config).await?;
        // Unlike this thread, which floats over all CPUs, its own keeps off the workers', and so do the
        // programs that it starts.
        let (report, mut reports) = tokio::sync::mpsc::unbounded_channel();
        let runner = if config.health.is_empty() {
            None
        } else {
            close_on_exec();
            let runner = Runner::reporting_to(report.clone(), &started.worker_cpus());
            Some(runner.map_err(|e| StartError::Runtime(e.to_string()))?)
        };
        let board = Board::new(config.health.clone(), runner);
        // Whoever changes the directory meanwhile means the same file.
        let file: Arc<Path> = std::path::absolute(file).unwrap_or_else(|_| file.to_owned()).into();
        let applying = Applying::start(config, text, &file.display().to_string());
        let controller = Arc::new(Controller::new(&mut started, config, applying, board, report));
        controller.publish_first()?;
        started.launch()?;
        controller.settle().await;
        controller.state().board.begin().map_err(|e| StartError::Runtime(e.to_string()))?;

        let (stop_serving, served) = tokio::sync::oneshot::channel::<()>();
        let serving = tokio::spawn(server.serve(controller.clone(), async {
            let _ = served.await;
        }));
        tracing::info!(file = %file.display(), socket = %config.socket.display(), "director is ready");
        let mut manager = Manager::new();
        manager.ready(controller.status());
        let mut watch = tokio::time::interval(manager.interval());
        watch.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);

        let mut view = started.netlink().view();
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut keep_alive = tokio::time::interval(KEEP_ALIVE);
        let mut follow_up = tokio::time::interval(FOLLOW_UP);
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
                _ = reports.recv_many(&mut news, usize::MAX) => {
                    controller.health_changed(&news);
                    news.clear();
                }
                _ = follow_up.tick() => {
                    controller.listen();
                    controller.health_changed(&[]);
                    controller.count_drains();
                    if controller.is_overdue() {
                        let controller = controller.clone();
                        tokio::spawn(async move { controller.take_back_overdue().await });
                    }
                }
                _ = hangup.recv() => {
                    tokio::spawn(controller.clone().reload(file.clone()));
                }
                _ = estimation.tick() => {
                    controller.estimate();
                    tokio::spawn(capture::give_up_unread(controller.clone()));
                    manager.status(controller.status());
                    log::report_left_out();
                }
                _ = watch.tick() => manager.watch(controller.turns()),
                _ = keep_alive.tick() => {
                    for neighbour in controller.next_hops() {
                        controller.resolve(neighbour).await;
                    }
                }
            }
        };
        manager.stopping();
        log::report_rest();
        let _ = stop_serving.send(());
        let _ = serving.await;
        controller.stopping().await;
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
