//! Metrics as they are served, against docs/metrics.md and what is in docs/monitoring.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use control::metrics::{Format, Reading, Scrape, Without};
use control::protocol::{Client, LcoreStats, Limits};
use support::Running;

const DOCUMENTATION: &str = include_str!("../../docs/metrics.md");
const DASHBOARD: &str = include_str!("../../docs/monitoring/director.json");
const ALERTS: &str = include_str!("../../docs/monitoring/alerts.yml");
const CASES: &str = include_str!("../../docs/monitoring/alerts-test.yml");

/// A family as the text has it: its kind and the labels of its series.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Family {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
}

/// A director of which every series is there.
fn filled() -> Reading {
    let running = Running::start(0, Limits::default());
    let mut client = Client::connect(&running.path).expect("connects");
    for line in [
        r#"{"request":"service.add","service":{"protocol":"tcp","address":"10.99.0.1:80"}}"#,
        r#"{"request":"server.add","service":{"protocol":"tcp","address":"10.99.0.1:80"},"server":{"address":"10.0.2.11:8080","method":"nat","weight":2}}"#,
        r#"{"request":"service.add","service":{"mark":7,"family":"ipv6"}}"#,
    ] {
        client.call(&serde_json::from_str(line).expect("a request")).expect("is done");
    }
    let mut reading = Reading::take(&mut client).expect("is answered");
    let lcore =
        LcoreStats { lcore: 2, reasons: [("table_full".to_owned(), 9)].into(), ..LcoreStats::default() };
    reading.stats.lcores.push(lcore);
    reading
}

fn text(reading: Reading, without: Without, format: Format) -> String {
    Scrape { reading: Some(reading.into()), took: Duration::from_millis(2), without }.text(format)
}

/// The names of the labels of a line, and what stands behind them.
fn labels(line: &str) -> (BTreeSet<String>, &str) {
    let mut names = BTreeSet::new();
    let Some((_, mut rest)) = line.split_once('{') else {
        return (names, line.split_once(' ').expect("a value").1);
    };
    while !rest.starts_with('}') {
        let (name, value) = rest.trim_start_matches(',').split_once("=\"").expect("a label");
        names.insert(name.to_owned());
        let mut escaped = false;
        let end = value
            .char_indices()
            .find(|(_, c)| match (escaped, c) {
                (false, '"') => true,
                (was, c) => {
                    escaped = !was && *c == '\\';
                    false
                }
            })
            .expect("its end")
            .0;
        rest = &value[end + 1..];
    }
    (names, rest[1..].trim())
}

/// Families by the names of their series; the series of a histogram by the name of the family.
fn families(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("help");
            families.entry(name.to_owned()).or_default().help = help.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            families.entry(name.to_owned()).or_default().kind = kind.to_owned();
        } else {
            let name = line.split(['{', ' ']).next().expect("a name");
            let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let name = of_histogram.filter(|name| families.contains_key(*name)).unwrap_or(name);
            let family = families.get_mut(name).unwrap_or_else(|| panic!("no type of {name}"));
            let (mut names, value) = labels(line);
            value.parse::<f64>().unwrap_or_else(|error| panic!("{error}: {line}"));
            if family.kind == "histogram" {
                names.remove("le");
            }
            family.labels.append(&mut names);
        }
    }
    families
}

/// The rows of the tables of docs/metrics.md: name, kind, labels.
fn documented() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let rows = DOCUMENTATION.lines().filter_map(|line| line.strip_prefix("| `director_"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let name = format!("director_{}", cells[0].trim_end_matches('`'));
        let labels = cells[3].split(',').map(|label| label.trim().trim_matches('`').to_owned());
        assert!(!cells[2].is_empty() && !cells[4].is_empty(), "{name} has neither unit nor meaning");
        (name, (cells[1].to_owned(), labels.filter(|label| !label.is_empty()).collect()))
    })
    .collect()
}

#[test]
fn what_is_documented_is_served_and_the_other_way_round() {
    let served = families(&text(filled(), Without::default(), Format::Prometheus));
    let documented = documented();
    let names = |of: Vec<&String>| of.into_iter().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(served.keys().collect()), names(documented.keys().collect()));
    for (name, family) in &served {
        let (kind, labels) = &documented[name];
        assert_eq!((&family.kind, &family.labels), (kind, labels), "{name}");
        assert!(family.help.ends_with('.'), "{name}: {}", family.help);
    }
}

#[test]
fn names_have_their_units_and_counters_end_in_total() {
    for (name, family) in families(&text(filled(), Without::default(), Format::Prometheus)) {
        assert_eq!(family.kind == "counter", name.ends_with("_total"), "{name}");
        for unit in ["_ms", "_us", "_ns", "_kb", "_mb"] {
            assert!(!name.trim_end_matches("_total").ends_with(unit), "{name} is not in a base unit");
        }
    }
}

#[test]
fn every_series_stands_there_once() {
    let text = text(filled(), Without::default(), Format::OpenMetrics);
    let mut seen = BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let series = line.rsplit_once(' ').expect("a value").0;
        assert!(seen.insert(series), "{series} stands there twice");
    }
    assert!(text.ends_with("# EOF\n"), "OpenMetrics ends with a mark");
}

#[test]
fn series_say_what_the_director_said() {
    let text = text(filled(), Without::default(), Format::Prometheus);
    for line in [
        "director_up 1",
        "director_conserved 1",
        "director_uptime_seconds 61.0",
        r#"director_build_info{version="9.8.7",dpdk="DPDK 22.11.5",protocol="1"} 1"#,
        r#"director_service_info{service="mark 7/ipv6",protocol="",address="",family="ipv6",scheduler="wlc",persistent="false"} 1"#,
        r#"director_service_connections_total{service="tcp 10.99.0.1:80"} 7"#,
        r#"director_service_packets_total{service="tcp 10.99.0.1:80",direction="out"} 60"#,
        r#"director_service_bytes_total{service="tcp 10.99.0.1:80",direction="in"} 700"#,
        r#"director_service_available_servers{service="mark 7/ipv6"} 0"#,
        r#"director_service_has_quorum{service="tcp 10.99.0.1:80"} 0"#,
        r#"director_server_active_connections{service="tcp 10.99.0.1:80",server="10.0.2.11:8080"} 3"#,
        r#"director_server_standing{service="tcp 10.99.0.1:80",server="10.0.2.12:8080",standing="inhibited"} 1"#,
        r#"director_check_runs_total{service="tcp 10.99.0.1:80",server="10.0.2.12:8080",number="1",check="http /healthz",result="failed"} 31"#,
        r#"director_check_duration_seconds{service="tcp 10.99.0.1:80",server="10.0.2.11:8080",number="1",check="http /healthz"} 0.0015"#,
        r#"director_lcore_reason_packets_total{lcore="2",outcome="dropped",reason="table_full"} 9"#,
        r#"director_lcore_reason_packets_total{lcore="1",outcome="dropped",reason="table_full"} 0"#,
        r#"director_queue_wrong_lcore_packets_total{port="0",device="net_tap0,iface=dtap0",queue="2"} 30"#,
        r#"director_latency_seconds_bucket{lcore="1",le="1.024e-06"} 4"#,
        r#"director_latency_seconds_bucket{lcore="1",le="+Inf"} 10"#,
        r#"director_latency_seconds_sum{lcore="1"} 0.000015"#,
    ] {
        assert!(text.lines().any(|served| served == line), "no {line} in\n{text}");
    }
}

#[test]
fn what_there_are_many_of_can_be_left_out() {
    let names =
        |without| families(&text(filled(), without, Format::Prometheus)).into_keys().collect::<Vec<_>>();
    let has = |names: &[String], prefix: &str| names.iter().any(|name| name.starts_with(prefix));
    let without_checks = names(Without { checks: true, ..Without::default() });
    assert!(has(&without_checks, "director_server_") && !has(&without_checks, "director_check_"));
    let without_servers = names(Without { servers: true, ..Without::default() });
    assert!(!has(&without_servers, "director_server_") && !has(&without_servers, "director_check_"));
    assert!(has(&without_servers, "director_service_active_connections"));
}

/// Names of metrics in expressions.
fn named(text: &str) -> BTreeSet<String> {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !is_of_name(c)).filter(|word| word.starts_with("director_")).map(str::to_owned).collect()
}

#[test]
fn dashboard_and_alerts_name_only_metrics_that_exist() {
    let served = families(&text(filled(), Without::default(), Format::Prometheus));
    let exists = |name: &str| {
        let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        served.contains_key(name)
            || histogram.is_some_and(|name| served.get(name).is_some_and(|f| f.kind == "histogram"))
    };
    for (file, least) in [(DASHBOARD, 20), (ALERTS, 10), (CASES, 10)] {
        let names = named(file);
        assert!(names.len() >= least, "only {names:?}");
        for name in names {
            assert!(exists(&name), "{name} does not exist");
        }
    }
}

#[test]
fn the_dashboard_is_whole() {
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let mut ids = BTreeSet::new();
    let mut places = Vec::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{panel}");
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap_or_else(|| panic!("{panel}"));
        let place = (at("x"), at("y"), at("w"), at("h"));
        assert!(place.0 + place.2 <= 24, "{panel}");
        for other in &places {
            let (x, y, w, h): (u64, u64, u64, u64) = *other;
            let apart =
                x + w <= place.0 || place.0 + place.2 <= x || y + h <= place.1 || place.1 + place.3 <= y;
            assert!(apart, "{} covers another panel", panel["title"]);
        }
        places.push(place);
        if panel["type"] != "row" {
            let targets = panel["targets"].as_array().expect("targets");
            assert!(
                !targets.is_empty() && targets.iter().all(|target| target["expr"].is_string()),
                "{panel}"
            );
            assert!(!panel["description"].as_str().unwrap_or_default().is_empty(), "{}", panel["title"]);
        }
    }
    assert!(ids.len() >= 15, "only {} panels", ids.len());
}
