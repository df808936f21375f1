//! docs/protocol.md and docs/directorctl.md keep up with the code.

use control::protocol::{
    Applied, CapturePage, CaptureStarted, ConfigDiff, ConfigHistory, ConnectionList, Done, DrainList,
    Explanation, HealthList, HistogramList, Latency, RateList, ReasonList, Refusal, Request, ServiceList,
    SettingsList, Stats, TemplateList, TimeoutsInForce, Version, decode_reply, decode_request,
    encode_request,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

const PROTOCOL: &str = include_str!("../../docs/protocol.md");
const TOUR: &str = include_str!("../../docs/directorctl.md");

/// The example lines: requests and replies.
fn examples() -> impl Iterator<Item = &'static str> {
    PROTOCOL.lines().filter(|line| line.starts_with("{\"version\""))
}

/// Every key of every object, but those of objects whose keys are data.
fn keys(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                into.push(key.clone());
                if key != "reasons" && key != "slow_path" {
                    keys(value, into);
                }
            }
        }
        Value::Array(array) => array.iter().for_each(|value| keys(value, into)),
        _ => {}
    }
}

fn shown_exactly<T: DeserializeOwned + Serialize>(request: &str, ok: &Value) {
    let parsed: T =
        serde_json::from_value(ok.clone()).unwrap_or_else(|error| panic!("{request}: {error}\n{ok}"));
    // The same keys back: the example has every field, and none that the director does not send.
    assert_eq!(&serde_json::to_value(parsed).expect("JSON"), ok, "the example of {request}");
}

#[test]
fn every_request_has_a_section_and_an_example() {
    for name in Request::NAMES {
        assert!(PROTOCOL.contains(&format!("### {name}\n")), "no section about {name}");
        let example = examples().find(|line| line.contains(&format!("\"request\":\"{name}\"")));
        assert!(example.is_some(), "no example of {name}");
    }
}

#[test]
fn every_example_request_is_understood() {
    for line in examples().filter(|line| line.contains("\"request\"")) {
        let envelope = decode_request(line.as_bytes()).unwrap_or_else(|error| panic!("{error:?}\n{line}"));
        let again = encode_request(envelope.id, &envelope.request);
        assert_eq!(decode_request(again.trim_ascii_end()), Ok(envelope));
    }
}

#[test]
fn every_example_reply_is_what_the_code_makes_of_it() {
    let mut request = "";
    let mut replies = 0;
    for line in examples() {
        if let Some((_, rest)) = line.split_once("\"request\":\"") {
            request = rest.split('"').next().expect("a name");
            continue;
        }
        let reply = decode_reply(line.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{line}"));
        replies += 1;
        match (request, reply.result) {
            (_, Err(Refusal { code, message, remedy })) => {
                assert!(!code.is_empty() && !message.is_empty() && !remedy.is_empty(), "{line}");
            }
            ("service.list", Ok(ok)) => shown_exactly::<ServiceList>(request, &ok),
            ("connection.list", Ok(ok)) => shown_exactly::<ConnectionList>(request, &ok),
            ("template.list", Ok(ok)) => shown_exactly::<TemplateList>(request, &ok),
            ("stats", Ok(ok)) => shown_exactly::<Stats>(request, &ok),
            ("settings", Ok(ok)) => shown_exactly::<SettingsList>(request, &ok),
            ("timeouts", Ok(ok)) => shown_exactly::<TimeoutsInForce>(request, &ok),
            ("rates", Ok(ok)) => shown_exactly::<RateList>(request, &ok),
            ("reasons", Ok(ok)) => shown_exactly::<ReasonList>(request, &ok),
            ("health", Ok(ok)) => shown_exactly::<HealthList>(request, &ok),
            ("server.drain.status", Ok(ok)) => shown_exactly::<DrainList>(request, &ok),
            ("latency.histograms", Ok(ok)) => {
                shown_exactly::<HistogramList>(request, &ok);
                let list: HistogramList = serde_json::from_value(ok).expect("it was shown to be one");
                assert_eq!(list.histograms[0].read().map(|histogram| histogram.len()), Ok(10));
            }
            ("config.diff", Ok(ok)) => shown_exactly::<ConfigDiff>(request, &ok),
            ("config.apply" | "config.rollback", Ok(ok)) => shown_exactly::<Applied>(request, &ok),
            ("config.history", Ok(ok)) => shown_exactly::<ConfigHistory>(request, &ok),
            ("latency", Ok(ok)) => shown_exactly::<Latency>(request, &ok),
            ("capture.start", Ok(ok)) => shown_exactly::<CaptureStarted>(request, &ok),
            ("capture.read", Ok(ok)) => shown_exactly::<CapturePage>(request, &ok),
            ("explain", Ok(ok)) => shown_exactly::<Explanation>(request, &ok),
            ("version", Ok(ok)) if ok != serde_json::json!({}) => shown_exactly::<Version>(request, &ok),
            (_, Ok(ok)) => shown_exactly::<Done>(request, &ok),
        }
    }
    assert!(replies >= 8, "only {replies} example replies");
}

#[test]
fn every_field_of_a_reply_is_explained() {
    let mut fields = Vec::new();
    for line in examples().filter(|line| !line.contains("\"request\"")) {
        keys(&serde_json::from_str(line).expect("JSON"), &mut fields);
    }
    fields.sort();
    fields.dedup();
    assert!(fields.len() > 60, "the examples show only {} fields", fields.len());
    for field in fields {
        assert!(PROTOCOL.contains(&format!("`{field}`")), "`{field}` is not explained");
    }
}

#[test]
fn every_refusal_of_the_protocol_is_listed() {
    for code in [
        "line-too-long",
        "too-many-clients",
        "too-many-long-lines",
        "not-utf-8",
        "not-json",
        "unsupported-version",
        "missing-id",
        "unknown-request",
        "bad-request",
        "not-permitted",
    ] {
        assert!(PROTOCOL.contains(&format!("| `{code}` |")), "{code} is not in the table");
    }
}

#[test]
fn the_tour_shows_every_command() {
    for command in [
        "service add",
        "service edit",
        "service del",
        "service list",
        "server add",
        "server edit",
        "server del",
        "server drain",
        "server drains",
        "connection list",
        "template list",
        "save",
        "apply",
        "apply --dry-run",
        "apply --confirm",
        "confirm",
        "rollback",
        "history",
        "diff",
        "import ipvsadm",
        "import keepalived",
        "settings",
        "settings set",
        "timeouts",
        "stats",
        "stats --rate",
        "latency",
        "latency --plot",
        "latency --hlog",
        "health",
        "health --failing",
        "top",
        "explain",
        "capture",
        "version",
        "completion",
    ] {
        assert!(TOUR.contains(&format!("directorctl {command}")), "directorctl {command} is not shown");
    }
}

/// What the manual says needs a restart is what the code refuses.
#[test]
fn the_manual_lists_what_needs_a_restart() {
    let manual = include_str!("../../docs/changes.md");
    let section = manual.split("## What needs a restart\n").nth(1).expect("a section");
    let section = section.split("\n## ").next().expect("its text");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let listed: Vec<(String, Vec<String>)> = rows
        .map(|row| {
            let (table, keys) = row.split_once("` | ").expect("two columns");
            let keys = keys.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            (table.trim_matches(['[', ']']).replace("top level", ""), keys)
        })
        .collect();
    let wanted: Vec<(String, Vec<String>)> = control::plan::FIXED
        .iter()
        .map(|(table, keys)| ((*table).to_owned(), keys.iter().map(|key| (*key).to_owned()).collect()))
        .collect();
    assert_eq!(listed, wanted);
}

/// Every test that docs/ipvs.md names is there.
#[test]
fn the_tests_that_prove_the_table_of_ipvs_exist() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
    let mut sources = String::new();
    let mut directories: Vec<_> =
        ["control", "director", "testbed/src", "testbed/tests"].iter().map(|name| root.join(name)).collect();
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).expect("the sources are there").flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources += &std::fs::read_to_string(&path).expect("readable");
            }
        }
    }
    let table = std::fs::read_to_string(root.join("docs/ipvs.md")).expect("docs/ipvs.md");
    let rows = table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---"));
    let rows: Vec<&str> = rows.filter(|line| !line.starts_with("| IPVS |")).collect();
    assert!(rows.len() > 50);
    for row in rows {
        let last = row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
        let names: Vec<&str> = last.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test shows: {row}");
        for name in names {
            assert!(sources.contains(&format!("fn {name}(")), "there is no test {name}: {row}");
        }
    }
}
