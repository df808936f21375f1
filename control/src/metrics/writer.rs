//! Families of series, one after the other.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

/// Labels of one series.
pub(super) type Labels<'a, const N: usize> = [(&'static str, &'a str); N];

/// What a family is called and means.
#[derive(Clone, Copy, Debug)]
pub(super) struct About {
    name: &'static str,
    unit: Option<&'static Unit>,
    help: &'static str,
}

impl About {
    /// A family without a unit, or one whose name has it. `help` ends in a full stop.
    pub(super) const fn new(name: &'static str, help: &'static str) -> About {
        About { name, unit: None, help }
    }

    /// One that is measured in seconds.
    pub(super) const fn seconds(name: &'static str, help: &'static str) -> About {
        About { name, unit: Some(&Unit::Seconds), help }
    }

    /// One that is measured in bytes.
    pub(super) const fn bytes(name: &'static str, help: &'static str) -> About {
        About { name, unit: Some(&Unit::Bytes), help }
    }
}

/// Writes families. One without series is left out.
pub(super) struct Writer<'a>(DescriptorEncoder<'a>);

impl<'a> Writer<'a> {
    pub(super) fn new(encoder: DescriptorEncoder<'a>) -> Writer<'a> {
        Writer(encoder)
    }

    /// Things that only grow.
    pub(super) fn counter<L: EncodeLabelSet>(
        &mut self,
        about: About,
        series: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut series = series.into_iter().peekable();
        if series.peek().is_none() {
            return Ok(());
        }
        let About { name, unit, help } = about;
        let mut family = self.0.encode_descriptor(name, help, unit, MetricType::Counter)?;
        for (labels, value) in series {
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    /// What is so at the moment.
    pub(super) fn gauge<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        about: About,
        series: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let mut series = series.into_iter().peekable();
        if series.peek().is_none() {
            return Ok(());
        }
        let About { name, unit, help } = about;
        let mut family = self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        for (labels, value) in series {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// One number.
    pub(super) fn single<V: EncodeGaugeValue>(&mut self, about: About, value: V) -> fmt::Result {
        self.gauge(about, [([("", ""); 0], value)])
    }

    /// Labels that say more about what other series name. Its name ends in `_info`, which `about` leaves out.
    pub(super) fn info<L: EncodeLabelSet>(
        &mut self,
        about: About,
        series: impl IntoIterator<Item = L>,
    ) -> fmt::Result {
        let mut series = series.into_iter().peekable();
        if series.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(about.name, about.help, None, MetricType::Info)?;
        for labels in series {
            family.encode_info(&labels)?;
        }
        Ok(())
    }

    /// Distributions: labels, the sum of all values, and buckets by their upper bounds, the last one's infinite, each
    /// with what is in it alone.
    pub(super) fn histogram<L: EncodeLabelSet>(
        &mut self,
        about: About,
        series: impl IntoIterator<Item = (L, f64, Vec<(f64, u64)>)>,
    ) -> fmt::Result {
        let mut series = series.into_iter().peekable();
        if series.peek().is_none() {
            return Ok(());
        }
        let About { name, unit, help } = about;
        let mut family = self.0.encode_descriptor(name, help, unit, MetricType::Histogram)?;
        for (labels, sum, buckets) in series {
            let count = buckets.iter().map(|(_, count)| count).sum();
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}
