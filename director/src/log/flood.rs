//! An end to floods: what one place in the code says again and again is left out beyond an allowance, and how often that
//! was is said.
//!
//! Lines for debugging are never left out: whoever asks for them wants all.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// So many lines of one place may come at once.
const BURST: f64 = 100.0;
/// So many lines of one place may come in a second for ever.
const PER_SECOND: f64 = 5.0;
/// How often it is said that lines of one place are left out.
pub(super) const REPORTED_EVERY: Duration = Duration::from_secs(10);

/// What is known of all places that log.
#[derive(Default)]
pub(super) struct Flood(Mutex<HashMap<Identifier, Place>>);

/// A place in the code that logs.
struct Place {
    allowance: f64,
    /// When `allowance` was right.
    at: Instant,
    left_out: Option<LeftOut>,
}

/// Lines that were left out.
struct LeftOut {
    lines: u64,
    since: Instant,
    level: Level,
    target: &'static str,
    /// What the first of them said.
    first: String,
}

impl Place {
    fn new(now: Instant) -> Self {
        Self { allowance: BURST, at: now, left_out: None }
    }

    /// Whether one more line may come.
    fn admits(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.allowance = (self.allowance + passed * PER_SECOND).min(BURST);
        self.at = now;
        let admitted = self.allowance >= 1.0;
        if admitted {
            self.allowance -= 1.0;
        }
        admitted
    }
}

impl Flood {
    fn places(&self) -> MutexGuard<'_, HashMap<Identifier, Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this event is to be logged at this moment.
    fn admits(&self, event: &Event<'_>, now: Instant) -> bool {
        let metadata = event.metadata();
        // Levels grow with their detail.
        if *metadata.level() > Level::INFO || metadata.target() == module_path!() {
            return true;
        }
        let mut places = self.places();
        let place = places.entry(metadata.callsite()).or_insert_with(|| Place::new(now));
        if place.admits(now) {
            return true;
        }
        let left_out = place.left_out.get_or_insert_with(|| {
            let mut message = Message::default();
            event.record(&mut message);
            LeftOut {
                lines: 0,
                since: now,
                level: *metadata.level(),
                target: metadata.target(),
                first: message.0,
            }
        });
        left_out.lines += 1;
        false
    }

    /// Says how many lines were left out where that goes on for `age` or longer.
    pub(super) fn report(&self, now: Instant, age: Duration) {
        let is_due = |out: &mut LeftOut| now.saturating_duration_since(out.since) >= age;
        // Collected first: what is logged here comes by `admits`.
        let mut due: Vec<LeftOut> =
            self.places().values_mut().filter_map(|place| place.left_out.take_if(is_due)).collect();
        due.sort_by_key(|out| out.since);
        for LeftOut { lines, since, level, target, first } in due {
            let seconds = now.saturating_duration_since(since).as_secs_f64();
            let text =
                format!("{lines} lines like this one were left out in {seconds:.1} s: {target}: {first}");
            match level {
                Level::ERROR => tracing::error!("{text}"),
                Level::WARN => tracing::warn!("{text}"),
                _ => tracing::info!("{text}"),
            }
        }
    }
}

/// What an event says, without its fields.
#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            // A string takes what it is given.
            let _ = write!(self.0, "{value:?}");
        }
    }
}

/// Stands between the filter and the output.
pub(super) struct FloodLayer(pub(super) Arc<Flood>);

impl<S: Subscriber> Layer<S> for FloodLayer {
    fn event_enabled(&self, event: &Event<'_>, _context: Context<'_, S>) -> bool {
        self.0.admits(event, Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Notes the messages that come through.
    #[derive(Clone, Default)]
    struct Notes(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Notes {
        fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
            let mut message = Message::default();
            event.record(&mut message);
            self.0.lock().unwrap().push(format!("{} {}", event.metadata().level(), message.0));
        }
    }

    fn logged(f: impl FnOnce(&Flood)) -> Vec<String> {
        let (flood, notes) = (Arc::new(Flood::default()), Notes::default());
        let subscriber = tracing_subscriber::registry().with(FloodLayer(flood.clone())).with(notes.clone());
        tracing::subscriber::with_default(subscriber, || f(&flood));
        let notes = notes.0.lock().unwrap();
        notes.clone()
    }

    #[test]
    fn a_flood_of_one_message_is_bounded_and_counted() {
        let lines = logged(|flood| {
            for n in 0..10_000 {
                tracing::warn!(n, "the sky falls");
            }
            tracing::warn!("something else");
            flood.report(Instant::now(), REPORTED_EVERY);
            flood.report(Instant::now(), Duration::ZERO);
            flood.report(Instant::now(), Duration::ZERO);
        });
        let falls = lines.iter().filter(|line| *line == "WARN the sky falls").count();
        // The loop takes some milliseconds, and more where the machine is busy.
        assert!((100..1000).contains(&falls), "{falls}");
        assert!(lines.contains(&"WARN something else".to_owned()));
        let reports: Vec<_> = lines.iter().filter(|line| line.contains("left out")).collect();
        assert_eq!(reports.len(), 1, "{reports:?}");
        let expected = format!("WARN {} lines like this one were left out in ", 10_000 - falls);
        assert!(reports[0].starts_with(&expected), "{reports:?}");
        assert!(reports[0].ends_with(": the sky falls"), "{reports:?}");
    }

    #[test]
    fn lines_for_debugging_are_all_there() {
        let lines = logged(|_| (0..1000).for_each(|n| tracing::debug!(n, "small")));
        assert_eq!(lines.len(), 1000);
    }

    proptest! {
        /// In any time, a place says no more than its burst and what comes by the second, whenever it wants to speak.
        #[test]
        fn no_rhythm_gets_more_than_the_allowance(pauses in proptest::collection::vec(0u64..400, 1..2000)) {
            let begun = Instant::now();
            let mut place = Place::new(begun);
            let (mut now, mut said) = (begun, 0);
            for pause in &pauses {
                now += Duration::from_millis(*pause);
                said += u32::from(place.admits(now));
            }
            let passed = now.duration_since(begun).as_secs_f64();
            prop_assert!(f64::from(said) <= BURST + passed * PER_SECOND + 1e-6);
            // And no less, where it wants to speak often enough.
            if pauses.iter().all(|pause| *pause < 200) {
                let fair = (BURST + passed * PER_SECOND - 1.0).min(pauses.len() as f64);
                prop_assert!(f64::from(said) >= fair.floor() - 1.0, "{said} of {fair}");
            }
        }
    }
}
