//! The benchmark works: it measures everything that it should, and no packet is unaccounted for. Its figures are
//! looked at by nobody here, since a test must not depend on how fast a machine is.

use std::collections::BTreeSet;
use std::process::Command;

use testbed::error::{Context as _, Result};
use testbed::{ensure, lab};

#[test]
fn measures_everything_and_loses_nothing() -> Result<()> {
    let directory = tempfile::tempdir().context(|| "a directory")?;
    let file = directory.path().join("report.json");
    let program = lab::programs::find("director-bench")?;
    let output = Command::new(program).args(["--smoke", "--json"]).arg(&file).output();
    let output = output.context(|| "cannot run the benchmark")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {said}", output.status);
    let text = std::fs::read_to_string(&file).context(|| "no report")?;
    let report: serde_json::Value = serde_json::from_str(&text).context(|| "the report")?;
    for mode in ["io", "macswap", "5tswap"] {
        ensure!(report["floors"][mode].as_f64().is_some_and(|mpps| mpps > 0.0), "no floor {mode}");
    }
    let cases = report["cases"].as_array().context(|| "no cases")?;
    let names: BTreeSet<_> = cases.iter().filter_map(|case| case["name"].as_str()).collect();
    for name in [
        "dr.udp.1.lcores-1",
        "tun.tcp.1k.lcores-1",
        "nat-request.udp.1k.lcores-2",
        "nat-reply.tcp.1k.lcores-1",
    ] {
        ensure!(names.contains(name), "no {name} among {names:?}");
    }
    for case in cases {
        ensure!(case["mpps"].as_f64().is_some_and(|mpps| mpps > 0.0), "{case}");
        ensure!(case["ratio"].as_f64().is_some_and(|ratio| ratio > 0.0), "{case}");
        ensure!(case["conserved"] == true, "{case}");
    }
    for method in ["dr", "tun", "nat"] {
        ensure!(report["new_connections_per_second"][method].as_f64().is_some_and(|n| n > 0.0), "{method}");
        let bytes = report["bytes_per_connection"][method].as_f64().context(|| "no bytes")?;
        ensure!(bytes <= 128.0, "{bytes} bytes for a connection by {method}");
    }
    ensure!(report["change_visible_us"]["p50"].is_number(), "no time of a change");
    let exporter = report["exporter"].as_array().context(|| "no cost of the exporter")?;
    ensure!(exporter.len() == 2, "{exporter:?}");
    for cost in exporter {
        let positive = |key: &str| cost[key].as_f64().is_some_and(|value| value > 0.0);
        ensure!(
            ["mpps", "quiet", "ratio", "scrapes_per_second", "scrape_ms"].into_iter().all(positive),
            "{cost}"
        );
        ensure!(cost["conserved"] == true, "{cost}");
    }
    Ok(())
}
