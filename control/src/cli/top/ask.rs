//! The thread that asks the director, and goes on asking while there is none.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use crate::protocol::{Client, ClientError, Latency, RateList, Request, ServiceList, Stats};

/// How long a director that hangs is waited for; less than [`crate::protocol::DEFAULT_TIMEOUT`], since somebody watches.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a director said at one moment.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) stats: Stats,
    pub(super) latency: Latency,
    /// Asked for only where it is shown: there may be thousands of services.
    pub(super) services: Option<(ServiceList, RateList)>,
}

/// What came of asking.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum News {
    Sample(Box<Sample>),
    /// There is no director, or none that answers.
    Away(String),
}

/// What is wished of the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wish {
    services: bool,
    paused: bool,
}

/// The thread that asks; it ends when this is dropped.
pub(super) struct Asking {
    news: Receiver<News>,
    wishes: Sender<Wish>,
}

impl Asking {
    pub(super) fn begin(socket: &Path, interval: Duration) -> Asking {
        let (tell, news) = mpsc::channel();
        let (wishes, heard) = mpsc::channel();
        let socket = socket.to_owned();
        std::thread::spawn(move || ask(&socket, interval, &tell, &heard));
        Asking { news, wishes }
    }

    /// All that has come since the last call.
    pub(super) fn news(&self) -> impl Iterator<Item = News> {
        self.news.try_iter()
    }

    /// What it shall do from now on.
    pub(super) fn wish(&self, services: bool, paused: bool) {
        // It ends only with this.
        let _ = self.wishes.send(Wish { services, paused });
    }
}

fn ask(socket: &PathBuf, interval: Duration, tell: &Sender<News>, heard: &Receiver<Wish>) {
    let mut client: Option<Client> = None;
    let mut wish = Wish { services: true, paused: false };
    loop {
        let begun = Instant::now();
        if !wish.paused {
            let news = match look(&mut client, socket, wish.services) {
                Ok(sample) => News::Sample(Box::new(sample)),
                Err(error) => {
                    client = None;
                    News::Away(error.to_string())
                }
            };
            if tell.send(news).is_err() {
                return;
            }
        }
        // Until it is time again, or another wish is to be seen at once.
        loop {
            match heard.recv_timeout(interval.saturating_sub(begun.elapsed())) {
                Ok(new) => {
                    let is_more = new.services && !wish.services || wish.paused && !new.paused;
                    wish = new;
                    if is_more {
                        break;
                    }
                }
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

fn look(client: &mut Option<Client>, socket: &PathBuf, services: bool) -> Result<Sample, ClientError> {
    let client = match client {
        Some(client) => client,
        None => client.insert(Client::connect_with_timeout(socket, PATIENCE)?),
    };
    Ok(Sample {
        services: match services {
            true => Some((client.service_list()?, client.ask(&Request::Rates {})?)),
            false => None,
        },
        stats: client.stats()?,
        latency: client.latency()?,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::protocol::{Handler, LatencySummary, Peer, Refusal, Reply, Server};

    /// A director that has nothing.
    struct Empty;

    impl Handler for Empty {
        async fn handle(&self, request: Request, _: Peer) -> Result<Reply, Refusal> {
            let none = LatencySummary::default();
            Ok(match request {
                Request::ServiceList {} => Reply::ServiceList(ServiceList::default()),
                Request::Rates {} => Reply::Rates(RateList { all: Default::default(), services: Vec::new() }),
                Request::Stats {} => Reply::Stats(Stats { uptime_ms: 7, ..Stats::default() }),
                _ => Reply::Latency(Latency { all: none, ..Latency::default() }),
            })
        }
    }

    /// Serves until it is dropped.
    struct Serving(Option<(tokio::sync::oneshot::Sender<()>, std::thread::JoinHandle<()>)>);

    impl Serving {
        fn at(socket: &Path) -> Serving {
            let server = Server::bind(socket).expect("a free name");
            let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
            let thread = std::thread::spawn(move || {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                let shutdown = async { stopped.await.unwrap_or(()) };
                runtime.block_on(server.serve(Arc::new(Empty), shutdown)).expect("it serves");
            });
            Serving(Some((stop, thread)))
        }
    }

    impl Drop for Serving {
        fn drop(&mut self) {
            if let Some((stop, thread)) = self.0.take() {
                let _ = stop.send(());
                let _ = thread.join();
            }
        }
    }

    /// The next news that are of this kind.
    fn wait(asking: &Asking, wanted: impl Fn(&News) -> bool) -> News {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(20) {
            match asking.news.recv_timeout(Duration::from_millis(100)) {
                Ok(news) if wanted(&news) => return news,
                _ => {}
            }
        }
        panic!("no such news came");
    }

    #[test]
    fn a_director_that_goes_and_comes_is_asked_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("director.sock");
        let asking = Asking::begin(&socket, Duration::from_millis(5));
        let is_away = |news: &News| matches!(news, News::Away(_));
        let News::Away(why) = wait(&asking, is_away) else { unreachable!("it was waited for") };
        assert!(why.contains("no director listens"), "{why}");
        let serving = Serving::at(&socket);
        wait(&asking, |news| matches!(news, News::Sample(sample) if sample.services.is_some()));
        asking.wish(false, false);
        wait(&asking, |news| matches!(news, News::Sample(sample) if sample.services.is_none()));
        drop(serving);
        wait(&asking, is_away);
        let _serving = Serving::at(&socket);
        wait(&asking, |news| matches!(news, News::Sample(sample) if sample.stats.uptime_ms == 7));

        asking.wish(false, true);
        std::thread::sleep(Duration::from_millis(200));
        asking.news().for_each(drop);
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(asking.news().count(), 0, "while it pauses nothing is asked");
        asking.wish(false, false);
        wait(&asking, |news| matches!(news, News::Sample(_)));
    }
}
