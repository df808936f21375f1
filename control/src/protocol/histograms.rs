//! What `latency.histograms` answers.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

/// All that was measured since the director started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistogramList {
    /// Milliseconds since the director started.
    pub uptime_ms: u64,
    /// One per worker lcore.
    pub histograms: Vec<LatencyHistogram>,
}

/// What one lcore measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencyHistogram {
    /// The lcore.
    pub lcore: u8,
    /// Nanoseconds, as HdrHistogram writes them: V2, compressed, in base64, as in its logs.
    pub histogram: String,
}

impl LatencyHistogram {
    /// A histogram whose values are nanoseconds.
    pub fn of(lcore: u8, histogram: &Histogram<u64>) -> LatencyHistogram {
        let mut bytes = Vec::new();
        // Into memory, and no histogram has a size of which it could not tell.
        if let Err(error) = V2DeflateSerializer::new().serialize(histogram, &mut bytes) {
            tracing::error!("a histogram cannot be written: {error}");
        }
        LatencyHistogram { lcore, histogram: BASE64_STANDARD.encode(bytes) }
    }

    /// The histogram.
    ///
    /// # Errors
    /// What is wrong with its text.
    pub fn read(&self) -> Result<Histogram<u64>, String> {
        let bytes = BASE64_STANDARD.decode(&self.histogram).map_err(|error| error.to_string())?;
        Deserializer::new().deserialize(&mut bytes.as_slice()).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_comes_back_as_it_was() {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 1 << 30, 3).expect("bounds");
        for value in 1..100_000 {
            histogram.saturating_record_n(value * 7, value % 5 + 1);
        }
        let sent = LatencyHistogram::of(3, &histogram);
        assert!(sent.histogram.starts_with("HISTFAAA"), "what every reader of HdrHistogram's logs knows");
        assert_eq!(sent.read(), Ok(histogram));
    }

    #[test]
    fn what_is_no_histogram_is_refused() {
        for text in ["", "HISTFAAA", "%", "AAAA"] {
            assert!(LatencyHistogram { lcore: 0, histogram: text.to_owned() }.read().is_err(), "{text:?}");
        }
    }
}
