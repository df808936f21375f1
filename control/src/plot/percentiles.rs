//! Latencies by percentile, as HdrHistogram's plotter draws them: from left to right each step is one more nine.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 470.0;
const LEFT: f64 = 86.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 46.0;
const BOTTOM: f64 = 66.0;
/// Distinct for those who do not see red and green apart (Okabe and Ito).
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];
/// Points of a line for each halving of what is left above it.
const STEPS: u32 = 5;
/// At most so many nines.
const NINES: f64 = 7.0;

/// One line of a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// What it is of.
    pub label: String,
    /// From the least on: the share of all that took at most so long, from 0 to below 1, and how long that is in
    /// nanoseconds.
    pub points: Vec<(f64, f64)>,
}

impl Line {
    /// All of a histogram of nanoseconds. The largest value stands where there is one more above it: at `1 - 1/n` of `n`.
    pub fn of(label: impl Into<String>, histogram: &Histogram<u64>) -> Line {
        let last = 1.0 - 1.0 / (histogram.len().max(2) as f64);
        let points = histogram
            .iter_quantiles(STEPS)
            .map(|step| (step.quantile_iterated_to().min(last), step.value_iterated_to() as f64));
        let mut points: Vec<(f64, f64)> = points.collect();
        points.dedup_by_key(|(share, _)| *share);
        if let Some(end) = points.last_mut() {
            *end = (last, histogram.max() as f64);
        }
        Line { label: label.into(), points }
    }
}

/// A picture of latencies by percentile.
#[derive(Clone, Debug, PartialEq)]
pub struct Percentiles {
    /// What it shows.
    pub title: String,
    /// What is shown, in the order of the legend.
    pub lines: Vec<Line>,
}

impl Percentiles {
    /// The picture. Time goes by powers of ten.
    pub fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let (low, high) = points()
            .fold((f64::INFINITY, 1.0f64), |(low, high), (_, ns)| (low.min(ns.max(1.0)), high.max(*ns)));
        let low = if low.is_finite() { low.log10().floor() } else { 0.0 };
        let high = high.log10().ceil().max(low + 1.0);
        let right = points().fold(1.0f64, |right, (share, _)| right.max(nines(*share)));
        let x = |share: f64| LEFT + (WIDTH - LEFT - RIGHT) * nines(share) / right;
        let y = |ns: f64| TOP + (HEIGHT - TOP - BOTTOM) * (high - ns.max(1.0).log10()) / (high - low);

        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
             <text x=\"{LEFT}\" y=\"24\" font-size=\"16\">{}</text>\n",
            escaped(&self.title)
        );
        let (bottom, end) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for power in low as i32..=high as i32 {
            let at = y(10f64.powi(power));
            let _ = writeln!(
                svg,
                "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{end}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                at + 4.0,
                time(10f64.powi(power))
            );
        }
        // What a number of packets makes of its nines is a hair less than whole.
        for count in 0..=(right + 1e-3).floor() as i32 {
            let at = x(1.0 - 10f64.powi(-count));
            let _ = writeln!(
                svg,
                "<line x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{bottom}\" stroke=\"#ddd\"/>\
                 <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 20.0,
                percentile(count)
            );
        }
        let (middle_x, middle_y) = ((LEFT + end) / 2.0, (TOP + bottom) / 2.0);
        let _ = writeln!(
            svg,
            "<text x=\"{middle_x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">percentile of packets</text>\n\
             <text x=\"20\" y=\"{middle_y:.1}\" text-anchor=\"middle\" transform=\"rotate(-90 20 {middle_y:.1})\">latency</text>",
            HEIGHT - 16.0
        );
        for (n, line) in self.lines.iter().enumerate() {
            let colour = COLOURS[n % COLOURS.len()];
            // What shares a colour with another one is dashed.
            let dashes = if n < COLOURS.len() { "" } else { " stroke-dasharray=\"6 3\"" };
            let points: Vec<String> =
                line.points.iter().map(|(share, ns)| format!("{:.1},{:.1}", x(*share), y(*ns))).collect();
            let (legend_x, legend_y) = (end + 12.0, TOP + 10.0 + 20.0 * n as f64);
            let _ = writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" \
                 stroke-linejoin=\"round\"{dashes}/>\
                 <line x1=\"{legend_x}\" y1=\"{legend_y}\" x2=\"{}\" y2=\"{legend_y}\" stroke=\"{colour}\" \
                 stroke-width=\"2\"{dashes}/><text x=\"{}\" y=\"{}\">{}</text>",
                points.join(" "),
                legend_x + 20.0,
                legend_x + 26.0,
                legend_y + 4.0,
                escaped(&line.label)
            );
        }
        svg.push_str("</svg>\n");
        svg
    }
}

/// How many nines a share has: 0.99 has two.
fn nines(share: f64) -> f64 {
    (-(1.0 - share).max(0.0).log10()).clamp(0.0, NINES)
}

/// `99.9%` for three nines.
fn percentile(nines: i32) -> String {
    match nines {
        0 => "0%".to_owned(),
        1 => "90%".to_owned(),
        2 => "99%".to_owned(),
        more => format!("99.{}%", "9".repeat(more as usize - 2)),
    }
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

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: u64, factor: u64) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, 1 << 30, 3).expect("bounds");
        (1..=values).for_each(|value| histogram.saturating_record(value * factor));
        histogram
    }

    fn points(svg: &str) -> Vec<Vec<(f64, f64)>> {
        let lines = svg.split("points=\"").skip(1).map(|rest| rest.split('"').next().unwrap_or_default());
        let point = |text: &str| {
            let (x, y) = text.split_once(',').expect("a point");
            (x.parse().expect("x"), y.parse().expect("y"))
        };
        lines.map(|line| line.split(' ').filter(|text| !text.is_empty()).map(point).collect()).collect()
    }

    #[test]
    fn a_line_goes_from_the_least_to_the_largest_by_nines() {
        let line = Line::of("all", &histogram(10_000, 100));
        assert_eq!(line.points.first().map(|(share, _)| *share), Some(0.0));
        let (share, ns) = *line.points.last().expect("an end");
        assert!((nines(share) - 4.0).abs() < 1e-9, "of ten thousand the largest has four nines, not {share}");
        assert!((ns / 1e6 - 1.0).abs() < 0.002, "{ns}");
        assert!(line.points.is_sorted());
        let at = line.points.iter().find(|(share, _)| *share >= 0.99).expect("99 %").1;
        assert!((at / 990_000.0 - 1.0).abs() < 0.01, "{at}");
    }

    #[test]
    fn a_picture_has_every_line_within_it_and_its_axes_labelled() {
        let lines = vec![
            Line::of("lcore 1", &histogram(10_000, 1)),
            Line::of("lcore 2 <slow>", &histogram(1_000_000, 50)),
            Line::of("nothing", &histogram(0, 1)),
        ];
        let svg = Percentiles { title: "Added & measured".to_owned(), lines }.svg();
        for words in [
            ">1 us<",
            ">10 ms<",
            ">0%<",
            ">90%<",
            ">99.9999%<",
            "percentile of packets",
            "lcore 2 &lt;slow&gt;",
            "Added &amp;",
        ] {
            assert!(svg.contains(words), "{words} is not in\n{svg}");
        }
        let lines = points(&svg);
        assert_eq!(lines.len(), 3);
        for (x, y) in lines.iter().flatten() {
            assert!((LEFT - 0.1..=WIDTH - RIGHT + 0.1).contains(x), "{x}");
            assert!((TOP - 0.1..=HEIGHT - BOTTOM + 0.1).contains(y), "{y}");
        }
        assert!(
            lines[1].iter().all(|(x, _)| x.is_finite())
                && lines[1].is_sorted_by(|a, b| a.0 <= b.0 && a.1 >= b.1)
        );
    }

    #[test]
    fn nothing_measured_is_an_empty_picture_and_no_panic() {
        let empty = Percentiles { title: String::new(), lines: vec![] }.svg();
        assert!(empty.contains(">1 ns<") && empty.ends_with("</svg>\n"));
        let svg =
            Percentiles { title: String::new(), lines: vec![Line::of("all", &histogram(1, 500))] }.svg();
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
