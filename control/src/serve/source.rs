//! The one who asks the director, for all who want to know.

use std::path::PathBuf;
use std::sync::{Arc, Mutex as Locked, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::metrics::Reading;
use crate::protocol::{Client, ClientError, RateList, Request};

/// What somebody was told so long ago is told to the next one as well, so that many who look cost the director what one
/// costs.
const FRESH: Duration = Duration::from_millis(200);

/// What the director answered, or why it did not.
#[derive(Clone, Debug)]
pub(super) struct Answer<T> {
    /// The answer.
    pub(super) result: Result<Arc<T>, Arc<ClientError>>,
    /// How long it took.
    pub(super) took: Duration,
    /// When it was complete.
    at: Instant,
}

/// Keeps one connection to the director, and makes a new one when that is lost.
pub(super) struct Source {
    socket: PathBuf,
    client: Arc<Locked<Option<Client>>>,
    reading: Mutex<Option<Answer<Reading>>>,
    rates: Mutex<Option<Answer<RateList>>>,
}

impl Source {
    pub(super) fn new(socket: PathBuf) -> Source {
        Source { socket, client: Arc::default(), reading: Mutex::default(), rates: Mutex::default() }
    }

    /// Everything but rates.
    pub(super) async fn reading(&self) -> Answer<Reading> {
        self.fresh(&self.reading, Reading::take).await
    }

    /// Rates.
    pub(super) async fn rates(&self) -> Answer<RateList> {
        self.fresh(&self.rates, |client| client.ask(&Request::Rates {})).await
    }

    /// What `kept` has if it is fresh. Who comes while somebody asks waits, and is told the same.
    async fn fresh<T: Clone + Send + Sync + 'static>(
        &self,
        kept: &Mutex<Option<Answer<T>>>,
        ask: fn(&mut Client) -> Result<T, ClientError>,
    ) -> Answer<T> {
        let mut kept = kept.lock().await;
        if let Some(answer) = kept.as_ref().filter(|answer| answer.at.elapsed() < FRESH) {
            return answer.clone();
        }
        let (client, socket) = (self.client.clone(), self.socket.clone());
        let begun = Instant::now();
        let asked = tokio::task::spawn_blocking(move || {
            let mut client = client.lock().unwrap_or_else(PoisonError::into_inner);
            again(&mut client, || Client::connect(&socket), ask)
        });
        let result = match asked.await {
            Ok(result) => result.map(Arc::new).map_err(Arc::new),
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        };
        let answer = Answer { result, took: begun.elapsed(), at: Instant::now() };
        *kept = Some(answer.clone());
        answer
    }
}

/// Asks by the connection that there is. One that was lost, as by a director that was started anew or that closed it for
/// want of questions, is made anew once.
fn again<T>(
    client: &mut Option<Client>,
    connect: impl Fn() -> Result<Client, ClientError>,
    ask: fn(&mut Client) -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    if let Some(known) = client {
        match ask(known) {
            Err(ClientError::Lost { .. }) => *client = None,
            other => return keep(client, other),
        }
    }
    let asked = ask(client.insert(connect()?));
    keep(client, asked)
}

/// After an error that is no refusal a connection is of no use.
fn keep<T>(client: &mut Option<Client>, asked: Result<T, ClientError>) -> Result<T, ClientError> {
    if let Err(error) = &asked
        && !matches!(error, ClientError::Refused(_))
    {
        *client = None;
    }
    asked
}
