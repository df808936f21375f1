//! The latencies as a picture: one line for each load.

use control::plot::{Line, Percentiles};

use super::report::{Latency, PERCENTILES};

/// An SVG.
#[must_use]
pub fn latencies(latencies: &[Latency]) -> String {
    let lines = latencies.iter().map(|latency| {
        let points = PERCENTILES
            .iter()
            .filter_map(|(name, percent)| Some((percent / 100.0, *latency.percentiles_ns.get(*name)?)));
        Line {
            label: format!("{} %, {:.1} Mpps", latency.load_percent, latency.mpps),
            points: points.collect(),
        }
    });
    let title = "Added latency by load, from due to transmitted".to_owned();
    Percentiles { title, lines: lines.collect() }.svg()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_load_is_a_line_with_its_legend() {
        let latency = |load_percent, factor: f64| Latency {
            load_percent,
            mpps: 1.0,
            refused_per_mille: 0.0,
            percentiles_ns: [("p50", 900.0), ("p99", 12_000.0)]
                .map(|(n, v)| (n.to_owned(), v * factor))
                .into(),
            own_percentiles_ns: [].into(),
        };
        let svg = latencies(&[latency(10, 1.0), latency(100, 50.0)]);
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(
            svg.contains(">100 %, 1.0 Mpps<") && svg.contains(">1 us<") && svg.contains(">1 ms<"),
            "{svg}"
        );
    }
}
