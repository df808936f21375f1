//! Metrics and the status page of a director with traffic: `promtool` reads the one, a real browser the other.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use testbed::ensure;
use testbed::error::{Context as _, Result};
use testbed::lab::browser::{Browser, View};
use testbed::lab::plan;
use testbed::lab::process;
use testbed::pictures::{DEAF, Scene};

const PATIENCE: Duration = Duration::from_secs(60);

fn monitoring(file: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/monitoring").join(file).display().to_string()
}

/// `promtool check metrics` of a text.
fn check_metrics(text: &str) -> Result<()> {
    let directory = tempfile::tempdir().context(|| "a directory")?;
    let file = directory.path().join("metrics");
    std::fs::write(&file, text).context(|| "the metrics")?;
    let input = std::fs::File::open(&file).context(|| "the metrics")?;
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::from(input));
    let output = command.output().context(|| "cannot run promtool (Debian package prometheus)")?;
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() && said.trim().is_empty(), "promtool: {}: {said}", output.status);
    Ok(())
}

#[test]
fn promtool_knows_the_alert_rules_and_their_cases_hold() -> Result<()> {
    process::run(Command::new("promtool").args(["check", "rules", &monitoring("alerts.yml")]), PATIENCE)?;
    process::run(Command::new("promtool").args(["test", "rules", &monitoring("alerts-test.yml")]), PATIENCE)?;
    Ok(())
}

#[test]
fn promtool_complains_of_metrics_that_are_wrong() -> Result<()> {
    check_metrics("# HELP fine_total Fine.\n# TYPE fine_total counter\nfine_total 1\n")?;
    ensure!(check_metrics("# TYPE bad counter\nbad 1\n").is_err(), "a counter without help and _total");
    Ok(())
}

/// The number of a series, without its name and labels.
fn value(text: &str, series: &str) -> Result<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let number = line.context(|| format!("no {series} in\n{text}"))?;
    number.parse().context(|| format!("{series} is {number}"))
}

/// What stands in the page's row of a real server, cell by cell.
fn row(browser: &mut Browser, service: &str, server: &str) -> Result<Vec<String>> {
    let expression = format!(
        "[...document.querySelectorAll('.service')].filter(s => s.querySelector('button').dataset.service === '{service}')\
         .flatMap(s => [...s.querySelectorAll('tbody tr')]).filter(r => r.cells[0].textContent === '{server}')\
         .flatMap(r => [...r.cells].map(c => c.innerText.trim()))"
    );
    let cells = browser.evaluate(&expression)?;
    let text = |cell: &Value| cell.as_str().unwrap_or_default().to_owned();
    Ok(cells.as_array().context(|| "no cells")?.iter().map(text).collect())
}

#[test]
fn what_is_served_is_what_happens() -> Result<()> {
    let scene = Scene::start()?;
    let deaf = format!("{}:{DEAF}", plan::real_server(3));
    scene.with_traffic(|| {
        let exporter = &scene.exporter;
        let mut browser = Browser::start()?;
        browser.open(&exporter.url("/"), View::DESK)?;
        browser.wait_for("document.querySelectorAll('.service').length === 4")?;
        // The real server at which nobody listens is found out, and rates are what they are.
        browser.wait_for(&format!(
            "[...document.querySelectorAll('tbody tr')].some(r => r.innerText.includes('{deaf}') && \
             r.innerText.includes('fails, inhibited'))"
        ))?;
        browser.wait_for("/services? in trouble/.test(document.getElementById('state').textContent)")?;
        browser.wait_for("!document.getElementById('tiles').innerText.includes('–')")?;
        browser.wait_for("document.querySelectorAll('#latency rect').length > 3")?;

        let metrics = exporter.get("/metrics")?;
        check_metrics(&metrics)?;
        let web = "service=\"tcp 10.99.0.1:80\"";
        let deaf_up = format!("director_server_up{{{web},server=\"{deaf}\"}}");
        ensure!(value(&metrics, "director_up")? == 1.0 && value(&metrics, &deaf_up)? == 0.0, "{metrics}");
        ensure!(value(&metrics, "director_conserved")? == 1.0, "{metrics}");
        let available = format!("director_service_available_servers{{{web}}}");
        ensure!(value(&metrics, &available)? == 3.0, "three of four serve");
        ensure!(value(&metrics, &format!("director_service_active_connections{{{web}}}"))? >= 1.0, "some are held");
        for name in ["director_service_connections_total", "director_server_connections_total"] {
            ensure!(metrics.contains(name), "no {name}");
        }
        ensure!(value(&metrics, "director_latency_seconds_count{lcore=\"0\"}")? > 100.0, "packets were measured");

        let cells = row(&mut browser, "tcp 10.99.0.1:80", "10.0.2.11:8080")?;
        ensure!(cells.len() == 9 && cells[1] == "nat" && cells[2] == "2", "{cells:?}");
        ensure!(cells[3].parse::<u64>().is_ok_and(|active| active >= 1), "its held connections: {cells:?}");
        ensure!(cells[8] == "in", "{cells:?}");
        let cells = row(&mut browser, "tcp 10.99.0.1:80", &deaf)?;
        ensure!(cells[2] == "0 of 1" && cells[8].contains("tcp"), "its weight and why: {cells:?}");
        ensure!(row(&mut browser, "udp 10.99.0.1:53", "10.0.2.12:7007")?[1] == "nat", "UDP is there");
        for (title, least) in [("lcores", 1), ("ports", 2)] {
            let rows = browser.evaluate(&format!("document.querySelectorAll('#{title} tbody tr').length"))?;
            ensure!(rows.as_u64().is_some_and(|rows| rows >= least), "{title}: {rows}");
        }

        // What is searched for, and shut.
        browser.evaluate("{const s = document.getElementById('search'); s.value = '10.99.0.3'; s.dispatchEvent(new Event('input'));}")?;
        browser.wait_for("document.querySelectorAll('.service').length === 1")?;
        ensure!(browser.text()?.contains("1 of 4 services"), "how many are found is said");
        browser.evaluate("document.querySelector('.service button').click()")?;
        browser.wait_for("document.querySelector('.service button').getAttribute('aria-expanded') === 'false'")?;
        ensure!(browser.evaluate("document.querySelectorAll('#services tbody tr').length")? == 0, "it is shut");

        for view in [View::DESK, View::DESK.dark(), View::PHONE, View::PHONE.dark()] {
            browser.open(&exporter.url("/"), view)?;
            browser.wait_for("document.querySelectorAll('.service').length === 4")?;
            let wide = browser.evaluate("document.documentElement.scrollWidth")?;
            ensure!(wide.as_u64().is_some_and(|wide| wide <= view.width.into()), "{view:?} scrolls to {wide}");
            let faint = browser.evaluate(FAINT)?;
            ensure!(faint.as_array().is_some_and(Vec::is_empty), "{view:?}: too little contrast: {faint}");
        }
        let complaints = browser.complaints()?;
        ensure!(complaints.is_empty(), "the browser complains: {complaints:?}");
        Ok(())
    })?;
    scene.daemon.ctl().conserved()
}

#[test]
fn a_director_that_goes_is_said_kindly_and_seen_again() -> Result<()> {
    let Scene { lab, daemon, exporter } = Scene::start()?;
    let toml =
        std::fs::read_to_string(lab.directory().join("director.toml")).context(|| "the configuration")?;
    let mut browser = Browser::start()?;
    browser.open(&exporter.url("/"), View::PHONE)?;
    browser.wait_for("document.querySelectorAll('.service').length === 4")?;
    daemon.stop()?;
    browser.wait_for("!document.getElementById('away').hidden")?;
    let text = browser.text()?;
    ensure!(text.contains("does not answer") && text.contains("no director listens"), "{text}");
    ensure!(value(&exporter.get("/metrics")?, "director_up")? == 0.0, "metrics say so as well");
    check_metrics(&exporter.get("/metrics")?)?;
    let daemon = lab.start_director_toml(&toml, &lab.socket())?;
    browser.wait_for("document.getElementById('away').hidden")?;
    browser.wait_for("document.querySelectorAll('.service').length === 4")?;
    ensure!(browser.complaints()?.is_empty(), "the browser complains");
    thread::sleep(Duration::from_millis(300));
    ensure!(value(&exporter.get("/metrics")?, "director_up")? == 1.0, "metrics are back");
    daemon.stop()?;
    Ok(())
}

/// Texts whose contrast to what is behind them is less than WCAG 2 wants (4.5 to 1), each with what it is.
const FAINT: &str = r"(() => {
  const parts = (text) => text.match(/[\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)).reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parts(getComputedStyle(at).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const found = new Set();
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    if (!walk.currentNode.textContent.trim() || !element.checkVisibility() || element.closest('svg, script, style, noscript')) continue;
    const [a, b] = [light(parts(getComputedStyle(element).color)), light(behind(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) found.add(`${element.tagName}.${element.className} ${walk.currentNode.textContent.trim()} ${contrast.toFixed(2)}`);
  }
  return [...found];
})()";
