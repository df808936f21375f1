//! Metrics for Prometheus: what a running director answered, as text. `docs/metrics.md` has them all.
//!
//! Pure: replies in, text out. `crate::serve` asks and serves.

mod health;
mod latency;
mod lcore;
mod port;
mod reading;
mod server;
mod service;
mod whole;
mod writer;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{self, DescriptorEncoder};
use prometheus_client::registry::Registry;

pub use reading::Reading;
use writer::Writer;

/// What every name begins with.
const PREFIX: &str = "director";

/// How the text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// Prometheus's text format 0.0.4.
    Prometheus,
}

impl Format {
    /// Its media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// The one that a client wants, by its `Accept` header: OpenMetrics for whoever names it.
    pub fn wanted_by(accept: Option<&str>) -> Format {
        let names =
            |list: &str| list.split(',').any(|item| item.trim().starts_with("application/openmetrics-text"));
        if accept.is_some_and(names) { Format::OpenMetrics } else { Format::Prometheus }
    }
}

/// Series that there are many of, and that may be left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Without {
    /// Those of each real server, its checks included.
    pub servers: bool,
    /// Those of each health check.
    pub checks: bool,
}

/// What is to be written down at one time.
#[derive(Clone, Debug)]
pub struct Scrape {
    /// What the director answered; none where it did not.
    pub reading: Option<Arc<Reading>>,
    /// How long asking took.
    pub took: Duration,
    /// What to leave out.
    pub without: Without,
}

impl Scrape {
    /// The whole text.
    pub fn text(self, format: Format) -> String {
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        let encoded = match format {
            Format::OpenMetrics => encoding::text::encode(&mut text, &registry),
            Format::Prometheus => encoding::prometheus_text::encode(&mut text, &registry),
        };
        encoded.unwrap_or_else(|_| unreachable!("a string takes every text"));
        text
    }
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = Writer::new(encoder);
        whole::exporter(&mut writer, self)?;
        let Some(reading) = &self.reading else { return Ok(()) };
        whole::director(&mut writer, reading)?;
        service::write(&mut writer, reading)?;
        health::services(&mut writer, reading)?;
        if !self.without.servers {
            server::write(&mut writer, reading)?;
            health::servers(&mut writer, reading)?;
            if !self.without.checks {
                health::checks(&mut writer, reading)?;
            }
        }
        lcore::write(&mut writer, reading)?;
        port::write(&mut writer, reading)?;
        latency::write(&mut writer, reading)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_names_openmetrics_gets_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.3";
        assert_eq!(Format::wanted_by(Some(prometheus)), Format::OpenMetrics);
        for other in
            [None, Some("*/*"), Some("text/plain;version=0.0.4"), Some("text/html, application/json")]
        {
            assert_eq!(Format::wanted_by(other), Format::Prometheus);
        }
    }

    #[test]
    fn without_a_director_there_is_little_to_say() {
        let scrape = Scrape { reading: None, took: Duration::from_millis(3), without: Without::default() };
        let text = scrape.text(Format::Prometheus);
        assert!(text.contains("\ndirector_up 0\n"), "{text}");
        assert!(text.contains("\ndirector_scrape_duration_seconds 0.003\n"), "{text}");
        assert!(!text.contains("director_service"), "{text}");
    }
}
