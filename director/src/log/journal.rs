//! Lines as systemd's journal wants them: it adds the time itself, and takes the priority from a prefix
//! (sd-daemon(3)), so that `journalctl -p warning` works.

use std::fmt;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Whether standard error is a stream of the journal. `JOURNAL_STREAM` alone does not tell: children that write
/// elsewhere inherit it.
pub(super) fn reads_stderr() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stat) = rustix::fs::fstat(std::io::stderr()) else { return false };
    is_stream(&stream, stat.st_dev, stat.st_ino)
}

/// Whether `DEVICE:INODE` is this file.
fn is_stream(stream: &str, device: u64, inode: u64) -> bool {
    let named = stream.split_once(':').and_then(|(d, i)| Some((d.parse().ok()?, i.parse().ok()?)));
    named == Some((device, inode))
}

/// The priority of syslog(3).
fn priority(level: &Level) -> u8 {
    match *level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// Each line of a text with its priority before it.
pub(super) fn prefixed(text: &str, level: &Level) -> String {
    let priority = priority(level);
    text.lines().map(|line| format!("<{priority}>{line}\n")).collect()
}

/// The usual format without time and level, every line with its priority.
pub(super) struct Prioritised(Format<Full, ()>);

impl Default for Prioritised {
    fn default() -> Self {
        Self(tracing_subscriber::fmt::format().without_time().with_level(false).with_ansi(false))
    }
}

impl<S, N> FormatEvent<S, N> for Prioritised
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::new();
        self.0.format_event(context, Writer::new(&mut text), event)?;
        writer.write_str(&prefixed(&text, event.metadata().level()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_line_has_its_priority_and_no_time() {
        let sink = Sink::default();
        let made = sink.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_writer(move || made.clone())
            .with_ansi(false)
            .event_format(Prioritised::default())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!(target: "t", port = 1, "two\nlines");
            tracing::warn!(target: "t", "careful");
            tracing::info!(target: "t", "all is well");
            tracing::debug!(target: "t", "small");
            tracing::trace!(target: "t", "smaller");
        });
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert_eq!(
            text,
            "<3>t: two\n<3>lines port=1\n<4>t: careful\n<6>t: all is well\n<7>t: small\n<7>t: smaller\n"
        );
    }

    #[test]
    fn the_stream_is_known_by_device_and_inode() {
        assert!(is_stream("9:1234", 9, 1234));
        for stream in ["9:1235", "8:1234", "9", "", "9:1234:5", "a:b"] {
            assert!(!is_stream(stream, 9, 1234), "{stream}");
        }
    }
}
