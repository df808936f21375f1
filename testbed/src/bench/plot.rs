//! The latencies as a picture: percentiles from left to right, one line for each load, time by powers of ten.

use std::fmt::Write as _;

use super::report::Latency;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 130.0;
const TOP: f64 = 46.0;
const BOTTOM: f64 = 50.0;
/// Distinct for those who do not see red and green apart.
const COLOURS: [&str; 4] = ["#0072b2", "#009e73", "#e69f00", "#d55e00"];

/// An SVG.
#[must_use]
pub fn latencies(latencies: &[Latency]) -> String {
    let values = latencies.iter().flat_map(|latency| latency.percentiles_ns.values().copied());
    let (low, high) = values.fold((f64::INFINITY, 1.0f64), |(low, high), v| (low.min(v), high.max(v)));
    let (low, high) = (low.max(1.0).log10().floor(), high.log10().ceil());
    let y = |ns: f64| TOP + (HEIGHT - TOP - BOTTOM) * (high - ns.max(1.0).log10()) / (high - low).max(1.0);
    let names: Vec<&String> = latencies.first().map_or(Vec::new(), |l| l.percentiles_ns.keys().collect());
    let x =
        |n: usize| LEFT + (WIDTH - LEFT - RIGHT) * n as f64 / (names.len().saturating_sub(1)).max(1) as f64;
    let mut svg = String::new();
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"15\">Added latency by load, from due to transmitted</text>"
    );
    for power in low as i32..=high as i32 {
        let (at, label) = (y(10f64.powi(power)), time(10f64.powi(power)));
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            at + 4.0
        );
    }
    for (n, name) in names.iter().enumerate() {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{name}</text>",
            x(n),
            HEIGHT - BOTTOM + 22.0
        );
    }
    for (line, latency) in latencies.iter().enumerate() {
        let colour = COLOURS[line % COLOURS.len()];
        let points: Vec<String> = latency
            .percentiles_ns
            .values()
            .enumerate()
            .map(|(n, &ns)| format!("{:.1},{:.1}", x(n), y(ns)))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{} %, {:.1} Mpps</text>",
            points.join(" "),
            WIDTH - RIGHT + 10.0,
            TOP + 20.0 * (latencies.len() - line) as f64,
            latency.load_percent,
            latency.mpps
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// `10 us` for 10,000 nanoseconds.
fn time(ns: f64) -> String {
    match ns {
        ns if ns >= 1e9 => format!("{:.0} s", ns / 1e9),
        ns if ns >= 1e6 => format!("{:.0} ms", ns / 1e6),
        ns if ns >= 1e3 => format!("{:.0} us", ns / 1e3),
        ns => format!("{ns:.0} ns"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_load_is_a_line_within_the_picture() {
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
        let points =
            svg.split("points=\"").skip(1).flat_map(|rest| rest.split('"').next().unwrap().split(' '));
        for point in points {
            let (x, y) = point.split_once(',').unwrap();
            assert!((LEFT..=WIDTH).contains(&x.parse().unwrap()), "{point}");
            assert!((TOP - 0.1..=HEIGHT - BOTTOM + 0.1).contains(&y.parse().unwrap()), "{point}");
        }
    }
}
