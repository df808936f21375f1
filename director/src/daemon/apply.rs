//! Another configuration while lcores run: read, compared, made what runs as one snapshot, and taken back.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use control::config::Config;
use control::health::Runner;
use control::history::{Entry, History};
use control::plan::{Difference, KeyChange, Live, needs_restart};
use control::protocol::{Applied, ConfigDiff, ConfigHistory, Refusal, Reply};

use super::controller::{Controller, State, exhausted};
use super::weigh;
use crate::dpdk::close_on_exec;
use crate::service::{Exhausted, MarkRules, Services};

/// How long a configuration may wait to be confirmed, in seconds.
const MOST_CONFIRM: u32 = 86_400;
/// When it is tried again to take back what could not be taken back.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// So many lines of a difference go into the log.
const MOST_LINES: usize = 200;

/// What is known of configurations. Held to write by whoever applies one, to read by whoever changes something by hand.
pub(super) struct Applying {
    history: History,
    /// What was applied last, as it was then.
    applied: Live,
    unconfirmed: Option<Unconfirmed>,
}

/// A configuration that is taken back unless it is confirmed.
struct Unconfirmed {
    version: u64,
    who: String,
    until: Instant,
    /// What ran before, changes by hand included.
    before: Live,
    /// What was applied before.
    applied_before: Live,
    version_before: Option<u64>,
}

impl Applying {
    /// A director has started from this text.
    pub(super) fn start(config: &Config, text: &str, source: &str) -> Applying {
        let mut history = History::open(&config.history);
        let entry = Entry {
            who: "start".to_owned(),
            source: source.to_owned(),
            summary: "the director started".to_owned(),
            confirmed: true,
        };
        history.start(text, entry);
        Applying { history, applied: Live::from(config), unconfirmed: None }
    }
}

impl Controller {
    /// Makes what runs into what a text says, all of it or nothing.
    pub(super) async fn apply(
        &self,
        text: String,
        source: String,
        confirm_within: Option<u32>,
        who: String,
    ) -> Result<Applied, Refusal> {
        if confirm_within.is_some_and(|seconds| !(1..=MOST_CONFIRM).contains(&seconds)) {
            let message = "a configuration cannot wait so long, or so shortly, to be confirmed";
            return Err(Refusal::new(
                "bad-confirm",
                message,
                format!("give from 1 to {MOST_CONFIRM} seconds"),
            ));
        }
        let begun = Instant::now();
        let (text, config) = self.understand(text, source.clone()).await?;
        let mut applying = self.applying.write().await;
        if let Some(unconfirmed) = &applying.unconfirmed {
            return Err(waits(unconfirmed));
        }
        refuse_restart(&needs_restart(&self.started, &config))?;
        let next = Live::from(&config);
        let (before, difference) = self.switch(next.clone()).await?;
        let took = begun.elapsed();
        let applied_before = std::mem::replace(&mut applying.applied, next);
        let version_before = applying.history.current();
        let entry = Entry {
            who: who.clone(),
            source: source.clone(),
            summary: difference.summary(),
            confirmed: confirm_within.is_none(),
        };
        let (history, version) = {
            let mut history = std::mem::take(&mut applying.history);
            self.off_thread(move || {
                // The same text again is the same version.
                let again = history.current().filter(|at| history.text(*at).is_ok_and(|last| *last == *text));
                let version = again.unwrap_or_else(|| history.add(&text, entry));
                (history, version)
            })
            .await
        };
        applying.history = history;
        let summary = difference.summary();
        tracing::info!(who, source, version, confirm_within, ?took, "configuration applied: {summary}");
        log(&difference);
        // What changes nothing need not be confirmed.
        let confirm_within = confirm_within.filter(|_| !difference.is_empty());
        match confirm_within {
            Some(seconds) => {
                let until = Instant::now() + Duration::from_secs(seconds.into());
                self.state().taken_back_at = Some(until);
                applying.unconfirmed =
                    Some(Unconfirmed { version, who, until, before, applied_before, version_before });
            }
            None => self.confirm_version(&mut applying, version).await,
        }
        Ok(Applied { version: Some(version), difference, confirm_within })
    }

    /// What runs stays.
    pub(super) async fn confirm(&self, who: &str) -> Result<Reply, Refusal> {
        let mut applying = self.applying.write().await;
        let Some(Unconfirmed { version, .. }) = applying.unconfirmed.take() else {
            let remedy = "see `directorctl history`: it may have been taken back already";
            return Err(Refusal::new("nothing-to-confirm", "no configuration waits to be confirmed", remedy));
        };
        self.state().taken_back_at = None;
        self.confirm_version(&mut applying, version).await;
        tracing::info!(who, version, "configuration confirmed");
        Ok(Reply::DONE)
    }

    async fn confirm_version(&self, applying: &mut Applying, version: u64) {
        let mut history = std::mem::take(&mut applying.history);
        applying.history = self
            .off_thread(move || {
                history.confirm(version);
                history
            })
            .await;
    }

    /// Back to a version, or to what ran before the last one was applied.
    pub(super) async fn roll_back(&self, version: Option<u64>, who: &str) -> Result<Applied, Refusal> {
        let mut applying = self.applying.write().await;
        if version.is_none() && applying.unconfirmed.is_some() {
            let difference = self.take_back(&mut applying, who).await?;
            return Ok(Applied { version: applying.history.current(), difference, confirm_within: None });
        }
        let Some(version) = version.or(applying.history.before()) else {
            let remedy = "name a version of `directorctl history`";
            return Err(Refusal::new("nothing-before", "nothing is known of what ran before", remedy));
        };
        let history = applying.history.clone();
        let file = history.file(version).display().to_string();
        let text = self.off_thread(move || history.text(version)).await.map_err(|error| {
            let remedy = "name a version of `directorctl history`";
            Refusal::new("no-such-version", format!("version {version} cannot be had: {error}"), remedy)
        })?;
        let (_, config) = self.understand(text.to_string(), file).await?;
        refuse_restart(&needs_restart(&self.started, &config))?;
        let next = Live::from(&config);
        let (_, difference) = self.switch(next.clone()).await?;
        applying.applied = next;
        applying.unconfirmed = None;
        self.state().taken_back_at = None;
        applying.history.go_back(Some(version));
        self.confirm_version(&mut applying, version).await;
        tracing::warn!(who, version, "went back to an older configuration: {}", difference.summary());
        log(&difference);
        Ok(Applied { version: Some(version), difference, confirm_within: None })
    }

    /// What is not confirmed in time is taken back.
    pub(super) async fn take_back_overdue(&self) {
        let mut applying = self.applying.write().await;
        if applying.unconfirmed.as_ref().is_some_and(|unconfirmed| Instant::now() >= unconfirmed.until) {
            // What went wrong is in the log.
            let _ = self.take_back(&mut applying, "nobody confirmed it").await;
        }
    }

    /// Whether something waits to be taken back.
    pub(super) fn is_overdue(&self) -> bool {
        self.state().taken_back_at.is_some_and(|at| Instant::now() >= at)
    }

    /// Makes what ran before what runs again, changes by hand included. The configuration must be an unconfirmed one.
    async fn take_back(&self, applying: &mut Applying, why: &str) -> Result<Difference, Refusal> {
        let Some(unconfirmed) = applying.unconfirmed.take() else { return Ok(Difference::default()) };
        let version = unconfirmed.version;
        match self.switch(unconfirmed.before.clone()).await {
            Ok((_, difference)) => {
                self.state().taken_back_at = None;
                applying.applied = unconfirmed.applied_before;
                applying.history.go_back(unconfirmed.version_before);
                tracing::warn!(version, why, "configuration taken back: {}", difference.summary());
                log(&difference);
                Ok(difference)
            }
            Err(refusal) => {
                tracing::error!(version, error = refusal.message, "a configuration cannot be taken back yet");
                let until = Instant::now() + TRY_AGAIN;
                self.state().taken_back_at = Some(until);
                applying.unconfirmed = Some(Unconfirmed { until, ..unconfirmed });
                Err(refusal)
            }
        }
    }

    /// The director was told to stop.
    pub(super) async fn stopping(&self) {
        if let Some(Unconfirmed { version, who, .. }) = &self.applying.read().await.unconfirmed {
            tracing::warn!(version, who, "nobody has confirmed what runs: it ends with the director");
        }
    }

    /// Reads the file that the director was started with, and applies it.
    pub(super) async fn reload(self: Arc<Self>, file: Arc<Path>) {
        let path = file.clone();
        let refused = |why: &str| {
            tracing::error!("SIGHUP: {why}\nnothing has changed");
        };
        match self.off_thread(move || Config::read(&path)).await {
            Err(errors) => refused(&errors.to_string()),
            Ok(text) => {
                let applied = self.apply(text, file.display().to_string(), None, "SIGHUP".to_owned()).await;
                if let Err(Refusal { message, remedy, .. }) = applied {
                    refused(&format!("{message}\n    {remedy}"));
                }
            }
        }
    }

    /// What a text would change; without one, what was changed by hand.
    pub(super) async fn diff(&self, text: Option<String>, source: Option<String>) -> Result<Reply, Refusal> {
        let Some(text) = text else {
            let applied = self.applying.read().await.applied.clone();
            let runs = self.state().live();
            let difference = self.off_thread(move || Difference::between(&applied, &runs)).await;
            return Ok(Reply::ConfigDiff(ConfigDiff { difference, needs_restart: Vec::new() }));
        };
        let source = source.unwrap_or_else(|| "the configuration".to_owned());
        let (_, config) = self.understand(text, source).await?;
        let needs_restart = needs_restart(&self.started, &config);
        let runs = self.state().live();
        let difference = self.compare(runs, Live::from(&config)).await.2;
        Ok(Reply::ConfigDiff(ConfigDiff { difference, needs_restart }))
    }

    /// The configurations that ran.
    pub(super) async fn history(&self) -> Reply {
        let applying = self.applying.read().await;
        let left = applying.unconfirmed.as_ref().map(|unconfirmed| {
            let left = unconfirmed.until.saturating_duration_since(Instant::now());
            u64::try_from(left.as_millis()).unwrap_or(u64::MAX)
        });
        Reply::ConfigHistory(ConfigHistory {
            versions: applying.history.versions().cloned().collect(),
            current: applying.history.current(),
            taken_back_in_ms: left,
        })
    }

    /// Understands a text, every mistake of which is told otherwise.
    async fn understand(&self, text: String, source: String) -> Result<(String, Config), Refusal> {
        let understand = move || {
            let config = Config::parse(&text, &source);
            (text, config)
        };
        let (text, config) = self.off_thread(understand).await;
        let config = config.map_err(|errors| {
            let count = errors.iter().count();
            let things = if count == 1 { "one thing is" } else { "these things are" };
            let remedy = format!("nothing has changed: {things} to be mended first");
            Refusal::new("bad-configuration", errors.to_string(), remedy)
        })?;
        Ok((text, config))
    }

    /// What differs, and what that moves.
    async fn compare(&self, before: Live, next: Live) -> (Live, Live, Difference) {
        let compare = move || {
            let difference = Difference::between(&before, &next);
            (before, next, difference)
        };
        let (before, next, mut difference) = self.off_thread(compare).await;
        {
            let state = self.state();
            weigh::connections(&mut difference, &before, |service, server| {
                let (active, inactive) = state.compiler.connections(service, server);
                active + inactive
            });
        }
        let weigh = move || {
            weigh::shares(&mut difference, &before, &next);
            (before, next, difference)
        };
        self.off_thread(weigh).await
    }

    /// Makes what runs into this, for whoever holds [`Applying`] to write. Returns what ran before, and the difference.
    async fn switch(&self, next: Live) -> Result<(Live, Difference), Refusal> {
        let before = self.state().live();
        let (before, next, difference) = self.compare(before, next).await;
        if difference.is_empty() && before == next {
            return Ok((before, difference));
        }
        let known = before.addresses();
        let new: Vec<IpAddr> = next.addresses().into_iter().filter(|ip| !known.contains(ip)).collect();
        self.find_next_hops(&new).await;
        let mut state = self.state();
        self.hire(&mut state, &next)?;
        self.put(&mut state, &before, &next).map_err(exhausted)?;
        Ok((before, difference))
    }

    /// Sees to it that there is somebody to make checks, if any are to be made.
    fn hire(&self, state: &mut State, next: &Live) -> Result<(), Refusal> {
        if next.health.is_empty() || state.board.has_runner() {
            return Ok(());
        }
        close_on_exec();
        let runner = Runner::reporting_to(self.reports.clone(), &self.cpus).and_then(|mut runner| {
            runner.begin()?;
            Ok(runner)
        });
        let runner = runner.map_err(|error| {
            let message = format!("nobody can make health checks: {error}");
            Refusal::new("no-health-thread", message, "free memory, files or threads, and try again")
        })?;
        state.board.hire(runner);
        Ok(())
    }

    /// One snapshot for all of it.
    fn put(&self, state: &mut State, before: &Live, next: &Live) -> Result<(), Exhausted> {
        let changes = before.changes_to(next);
        let quiescent = state.quiescent();
        state.compiler.check_room(&changes, quiescent)?;
        let set = |state: &mut State, live: &Live| {
            (state.timeouts, state.settings) = (live.timeouts, live.settings);
            state.board.adopt(live.health.clone(), Instant::now());
        };
        set(state, next);
        let rules = (before.marks != next.marks).then(|| {
            let rules = MarkRules::instead_of(next.marks.clone(), state.compiler.marks());
            state.compiler.mark_by(Arc::new(rules))
        });
        let published = self.publish(state, Services::Edited(&changes));
        if published.is_err() {
            // A sorry server may be one more than there is room for.
            set(state, before);
            if let Some(rules) = rules {
                state.compiler.mark_by(rules);
            }
            let differing = before.policies_differing(next);
            for key in &differing {
                let service = state.model.services().get(key).cloned();
                state.board.follow(*key, service.as_ref(), Instant::now());
            }
            state.board.put_back(differing);
        }
        published
    }

    /// Work that takes its time, on another thread, and off the workers' CPUs if there are others.
    async fn off_thread<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let avoid = self.cpus.clone();
        let work = move || {
            if let Err(error) = control::health::keep_off(&avoid) {
                tracing::debug!(%error, "reading a configuration may take time from worker lcores");
            }
            work()
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

fn waits(Unconfirmed { version, who, until, .. }: &Unconfirmed) -> Refusal {
    let left = until.saturating_duration_since(Instant::now()).as_secs_f64().ceil();
    let message = format!("version {version}, by {who}, waits to be confirmed for {left} s more");
    Refusal::new("unconfirmed", message, "use `directorctl confirm` or `directorctl rollback` first")
}

fn refuse_restart(keys: &[KeyChange]) -> Result<(), Refusal> {
    if keys.is_empty() {
        return Ok(());
    }
    let words: Vec<String> = keys.iter().map(|key| format!("{key} needs a restart")).collect();
    let remedy = "nothing has changed: leave these as they were at the start, or restart the director";
    Err(Refusal::new("needs-restart", words.join("\n"), remedy))
}

/// What has changed, line by line.
fn log(difference: &Difference) {
    let text = difference.to_string();
    for line in text.lines().take(MOST_LINES) {
        tracing::info!("{line}");
    }
    let more = text.lines().count().saturating_sub(MOST_LINES);
    if more > 0 {
        tracing::info!("and {more} lines more");
    }
}
