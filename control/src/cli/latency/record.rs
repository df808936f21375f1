//! Whole histograms of latency: into HdrHistogram's log and into a picture.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{
    IntervalLogWriter, IntervalLogWriterBuilder, IntervalLogWriterError, Tag,
};

use super::text;
use crate::cli::output;
use crate::cli::session::{Failure, Session};
use crate::cli::waiting::Waiting;
use crate::plot::{Line, Percentiles};
use crate::protocol::{HistogramList, Latency, LatencySummary, Request};

/// What is to be made of histograms.
pub(super) struct Wanted<'a> {
    pub(super) plot: Option<&'a Path>,
    pub(super) log: Option<&'a Path>,
    /// What is measured from now on, in intervals of this length; without, all since the director started.
    pub(super) interval: Option<Duration>,
    /// So many intervals; without, until Ctrl-C.
    pub(super) count: Option<u32>,
}

pub(super) fn run(wanted: &Wanted<'_>, session: &mut Session) -> Result<(), Failure> {
    let mut waiting = Waiting::new()?;
    let mut last = Sample::take(session)?;
    let (begun, first) = (SystemTime::now(), last.uptime);
    let start =
        if wanted.interval.is_some() { begun } else { begun.checked_sub(last.uptime).unwrap_or(begun) };
    let mut serializer = V2DeflateSerializer::new();
    let mut file =
        wanted.log.map(File::create).transpose().map_err(|error| cannot_write(wanted.log, error))?;
    let mut log = match &mut file {
        Some(file) => {
            Some(begin(file, &mut serializer, start).map_err(|error| cannot_write(wanted.log, error))?)
        }
        None => None,
    };
    let mut keep = |sample: &Sample, from: Duration| match &mut log {
        Some(log) => write(log, sample, from).map_err(|error| cannot_write(wanted.log, error)),
        None => Ok(()),
    };

    let measured = match wanted.interval {
        None => {
            keep(&last, Duration::ZERO)?;
            last
        }
        Some(interval) => {
            let mut due = Instant::now();
            let mut all = Sample::default();
            for _ in 0..wanted.count.unwrap_or(u32::MAX) {
                // From one due time to the next: what asking takes makes no interval longer.
                due += interval;
                if waiting.is_interrupted(due.saturating_duration_since(Instant::now())) {
                    break;
                }
                let now = Sample::take(session)?;
                let part = now.since(&last)?;
                keep(&part, last.uptime.saturating_sub(first))?;
                all.add(&part)?;
                last = now;
            }
            all
        }
    };
    if let Some(path) = wanted.plot {
        let svg = measured.picture().svg();
        std::fs::write(path, svg).map_err(|error| cannot_write(wanted.plot, error))?;
    }
    let latency = measured.summary();
    let printed = match session.is_json() {
        true => serde_json::to_string(&latency).map_err(io::Error::from)? + "\n",
        false => text(&latency),
    };
    output::print(printed.as_bytes())
}

fn cannot_write(path: Option<&Path>, error: io::Error) -> Failure {
    Failure::File(path.map(|path| path.display().to_string()).unwrap_or_default(), error)
}

/// What was measured from one moment to another, by lcore, in nanoseconds.
#[derive(Clone, Debug, Default)]
struct Sample {
    /// When it was taken, counted from the director's start; of a part its length.
    uptime: Duration,
    lcores: BTreeMap<u8, Histogram<u64>>,
}

impl Sample {
    fn take(session: &mut Session) -> Result<Sample, Failure> {
        let list: HistogramList = session.ask(&Request::LatencyHistograms {})?;
        let read = |one: &crate::protocol::LatencyHistogram| Ok((one.lcore, one.read()?));
        let lcores: Result<_, String> = list.histograms.iter().map(read).collect();
        let lcores = lcores.map_err(|what| session.bad_reply(what))?;
        Ok(Sample { uptime: Duration::from_millis(list.uptime_ms), lcores })
    }

    /// What came since an earlier one of the same director.
    fn since(&self, earlier: &Sample) -> Result<Sample, Failure> {
        let mut part = self.clone();
        part.uptime = self.uptime.saturating_sub(earlier.uptime);
        for (lcore, histogram) in &mut part.lcores {
            if let Some(before) = earlier.lcores.get(lcore) {
                histogram.subtract(before).map_err(other_director)?;
            }
        }
        Ok(part)
    }

    fn add(&mut self, part: &Sample) -> Result<(), Failure> {
        self.uptime += part.uptime;
        for (lcore, histogram) in &part.lcores {
            match self.lcores.get_mut(lcore) {
                Some(sum) => sum.add(histogram).map_err(other_director)?,
                None => {
                    self.lcores.insert(*lcore, histogram.clone());
                }
            }
        }
        Ok(())
    }

    /// All lcores together; none where there is no lcore.
    fn all(&self) -> Option<Histogram<u64>> {
        let mut lcores = self.lcores.values();
        let mut all = lcores.next()?.clone();
        for step in lcores.flat_map(Histogram::iter_recorded) {
            all.saturating_record_n(step.value_iterated_to(), step.count_at_value());
        }
        Some(all)
    }

    fn summary(&self) -> Latency {
        let lcores = self.lcores.iter().map(|(lcore, h)| LatencySummary::from_histogram(Some(*lcore), h));
        let all = self.all().map(|all| LatencySummary::from_histogram(None, &all));
        Latency { lcores: lcores.collect(), all: all.unwrap_or_default(), distributions: Vec::new() }
    }

    fn picture(&self) -> Percentiles {
        let lcores = self.lcores.iter().map(|(lcore, h)| Line::of(format!("lcore {lcore}"), h));
        // One lcore is all there is.
        let all = self.all().filter(|_| self.lcores.len() > 1).map(|all| Line::of("all lcores", &all));
        let packets: u64 = self.lcores.values().map(Histogram::len).sum();
        let title = format!("What the director adds to {packets} packets, receive burst to transmit burst");
        Percentiles { title, lines: lcores.chain(all).collect() }
    }
}

fn other_director(error: impl std::fmt::Display) -> Failure {
    Failure::Otherwise(format!(
        "the director counts otherwise than before ({error}); was it restarted? begin again"
    ))
}

type Log<'a, 'b, W> = IntervalLogWriter<'a, 'b, W, V2DeflateSerializer>;

fn begin<'a, 'b, W: Write>(
    writer: &'a mut W,
    serializer: &'b mut V2DeflateSerializer,
    start: SystemTime,
) -> io::Result<Log<'a, 'b, W>> {
    IntervalLogWriterBuilder::new()
        .add_comment("[Histogram log format version 1.3]")
        .add_comment(
            "Latency that the director adds to packets, in nanoseconds; Interval_Max in microseconds",
        )
        .with_start_time(start)
        .with_max_value_divisor(1000.0)
        .begin_log_with(writer, serializer)
}

/// All lcores together without a tag, then each with its own.
fn write<W: Write>(log: &mut Log<'_, '_, W>, sample: &Sample, from: Duration) -> io::Result<()> {
    let all = sample.all();
    let all = all.iter().map(|all| (None, all));
    let lcores = sample.lcores.iter().map(|(lcore, histogram)| (Some(format!("lcore{lcore}")), histogram));
    for (tag, histogram) in all.chain(lcores) {
        let tag = tag.as_deref().and_then(Tag::new);
        log.write_histogram(histogram, from, sample.uptime, tag).map_err(|error| match error {
            IntervalLogWriterError::IoError(error) => error,
            IntervalLogWriterError::SerializeError(error) => io::Error::other(error),
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;

    fn sample(seconds: u64, counts: &[(u8, u64)]) -> Sample {
        let lcores = counts.iter().map(|&(lcore, packets)| {
            let mut histogram = Histogram::new_with_bounds(1, 1 << 30, 3).expect("bounds");
            histogram.saturating_record_n(1_000 * u64::from(lcore), packets);
            (lcore, histogram)
        });
        Sample { uptime: Duration::from_secs(seconds), lcores: lcores.collect() }
    }

    #[test]
    fn an_interval_is_what_came_between_and_all_is_their_sum() {
        let (first, second, third) =
            (sample(10, &[(1, 5)]), sample(11, &[(1, 8), (2, 1)]), sample(13, &[(1, 8), (2, 4)]));
        let part = second.since(&first).expect("the same director");
        let counts = |sample: &Sample| sample.lcores.values().map(Histogram::len).collect::<Vec<_>>();
        assert_eq!((part.uptime, counts(&part)), (Duration::from_secs(1), vec![3, 1]));
        let mut all = Sample::default();
        all.add(&part).expect("the first one");
        all.add(&third.since(&second).expect("the same director")).expect("the same range");
        assert_eq!((all.uptime, counts(&all)), (Duration::from_secs(3), vec![3, 4]));
        assert_eq!(all.all().map(|all| all.len()), Some(7));
        assert_eq!(all.summary().all.count, 7);
        let less = first.since(&second).expect_err("a director that has counted less is another one");
        assert!(less.to_string().contains("restarted"), "{less}");
    }

    #[test]
    fn a_log_is_read_back_with_its_tags() {
        let (mut bytes, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
        let mut log = begin(&mut bytes, &mut serializer, SystemTime::UNIX_EPOCH).expect("memory");
        write(&mut log, &sample(1, &[(1, 5), (2, 3)]), Duration::from_secs(7)).expect("memory");
        let text = String::from_utf8(bytes).expect("UTF-8");
        assert!(text.starts_with("#[Histogram log format version 1.3]\n"), "{text}");
        let mut found = Vec::new();
        for entry in IntervalLogIterator::new(text.as_bytes()) {
            let LogEntry::Interval(interval) = entry.expect("an entry") else { continue };
            let encoded = crate::protocol::LatencyHistogram {
                lcore: 0,
                histogram: interval.encoded_histogram().to_owned(),
            };
            let histogram = encoded.read().expect("a histogram");
            let tag = interval.tag().map(|tag| tag.as_str().to_owned());
            found.push((tag, interval.start_timestamp(), interval.duration(), histogram.len()));
        }
        let (from, long) = (Duration::from_secs(7), Duration::from_secs(1));
        let tag = |name: &str| Some(name.to_owned());
        assert_eq!(
            found,
            [(None, from, long, 8), (tag("lcore1"), from, long, 5), (tag("lcore2"), from, long, 3)]
        );
    }

    #[test]
    fn the_picture_has_a_line_for_each_lcore_and_all() {
        let picture = sample(1, &[(1, 5), (2, 3)]).picture();
        let labels: Vec<&str> = picture.lines.iter().map(|line| line.label.as_str()).collect();
        assert_eq!(labels, ["lcore 1", "lcore 2", "all lcores"]);
        assert!(picture.title.contains("8 packets"), "{}", picture.title);
        assert_eq!(sample(1, &[(1, 5)]).picture().lines.len(), 1);
        assert_eq!(Sample::default().picture().lines.len(), 0);
    }
}
