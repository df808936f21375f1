//! A real browser without a window: Chromium, spoken to by its DevTools protocol over two pipes.
//!
//! It reads requests from its descriptor 3 and writes answers to 4, each a JSON object that ends in a zero byte
//! (`--remote-debugging-pipe`). The pipes are named ones, so that a shell can put them in their places.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::process::{self, Process};
use crate::error::{Context as _, Result};
use crate::{ensure, fail};

/// The browser's name as a program.
const PROGRAM: &str = "chromium";
/// How long it may take to do something.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a page is looked at.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// Width in CSS pixels.
    pub width: u32,
    /// Height in CSS pixels.
    pub height: u32,
    /// Whether the user prefers dark colours.
    pub dark: bool,
    /// Whether it is a phone.
    pub phone: bool,
}

impl View {
    /// On a desk.
    pub const DESK: View = View { width: 1240, height: 900, dark: false, phone: false };
    /// In a hand.
    pub const PHONE: View = View { width: 390, height: 844, dark: false, phone: true };

    /// The same with dark colours.
    #[must_use]
    pub fn dark(self) -> View {
        View { dark: true, ..self }
    }
}

/// A running browser with one page. Ends when dropped.
#[derive(Debug)]
pub struct Browser {
    requests: File,
    answers: File,
    heard: Vec<u8>,
    session: Option<String>,
    next: u64,
    complaints: Vec<String>,
    _directory: tempfile::TempDir,
    process: Process,
}

impl Browser {
    /// Starts it, with files of its own.
    ///
    /// # Errors
    /// When it does not start (Debian package chromium).
    pub fn start() -> Result<Browser> {
        let directory = tempfile::Builder::new().prefix("director-browser-").tempdir();
        let directory = directory.context(|| "cannot make a directory for the browser")?;
        let path = |name: &str| directory.path().join(name);
        let (requests, answers) = (path("requests"), path("answers"));
        process::run(Command::new("mkfifo").arg(&requests).arg(&answers), PATIENCE)?;
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$@\" 3<\"$0/requests\" 4>\"$0/answers\""]).arg(directory.path());
        command.args([
            PROGRAM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
        ]);
        command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
        command.args(["--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe"]);
        command.arg(format!("--user-data-dir={}", path("profile").display()));
        let process = Process::start(PROGRAM, &mut command, path("browser.log"), false)?;
        // Each opening waits for the other end's, in the shell's order.
        let requests = OpenOptions::new().write(true).open(&requests).context(|| "a pipe to the browser")?;
        let answers = File::open(&answers).context(|| "a pipe from the browser")?;
        let mut browser = Browser {
            requests,
            answers,
            heard: Vec::new(),
            session: None,
            next: 1,
            complaints: Vec::new(),
            _directory: directory,
            process,
        };
        let page = browser.call("Target.createTarget", &json!({"url": "about:blank"}))?;
        let attach = json!({"targetId": page["targetId"], "flatten": true});
        let session = browser.call("Target.attachToTarget", &attach)?["sessionId"].clone();
        browser.session = Some(session.as_str().context(|| "the browser gives no session")?.to_owned());
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), &json!({}))?;
        }
        Ok(browser)
    }

    /// Goes to an address, looked at like this.
    ///
    /// # Errors
    /// When there is nothing.
    pub fn open(&mut self, url: &str, view: View) -> Result<()> {
        self.look(view)?;
        let gone = self.call("Page.navigate", &json!({"url": url}))?;
        ensure!(gone["errorText"].is_null(), "{url}: {}", gone["errorText"]);
        Ok(())
    }

    /// Looks at the page that is there like this.
    ///
    /// # Errors
    /// When the browser cannot.
    pub fn look(&mut self, view: View) -> Result<()> {
        let View { width, height, dark, phone } = view;
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone});
        self.call("Emulation.setDeviceMetricsOverride", &metrics)?;
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", &media)?;
        Ok(())
    }

    /// What an expression comes to on the page.
    ///
    /// # Errors
    /// When it throws.
    pub fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let wanted = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let outcome = self.call("Runtime.evaluate", &wanted)?;
        ensure!(outcome["exceptionDetails"].is_null(), "{expression}: {}", outcome["exceptionDetails"]);
        Ok(outcome["result"]["value"].clone())
    }

    /// Waits until an expression is true on the page.
    ///
    /// # Errors
    /// When it is not within a minute; the error has the page's text.
    pub fn wait_for(&mut self, expression: &str) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while self.evaluate(expression)? != true {
            if Instant::now() >= end {
                fail!("waited in vain for {expression} on\n{}", self.text()?);
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// What can be read on the page.
    ///
    /// # Errors
    /// When the browser does not say.
    pub fn text(&mut self) -> Result<String> {
        Ok(self.evaluate("document.body.innerText")?.as_str().unwrap_or_default().to_owned())
    }

    /// A picture of the page from its top, this high at most, as a PNG.
    ///
    /// # Errors
    /// When there is none.
    pub fn picture(&mut self, path: &Path, most_height: u32) -> Result<()> {
        let size = self.call("Page.getLayoutMetrics", &json!({}))?["cssContentSize"].clone();
        let height = size["height"].as_f64().unwrap_or_default().min(most_height.into());
        let clip = json!({"x": 0, "y": 0, "width": size["width"], "height": height, "scale": 1});
        let wanted = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let shot = self.call("Page.captureScreenshot", &wanted)?;
        let bytes = STANDARD.decode(shot["data"].as_str().unwrap_or_default()).context(|| "no picture")?;
        std::fs::write(path, bytes).context(|| format!("cannot write {}", path.display()))
    }

    /// What pages have complained of until now: errors, warnings, exceptions, what their policy forbids.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub fn complaints(&mut self) -> Result<Vec<String>> {
        // What was said before this answer has been heard with it.
        self.evaluate("0")?;
        Ok(std::mem::take(&mut self.complaints))
    }

    fn call(&mut self, method: &str, parameters: &Value) -> Result<Value> {
        let id = self.next;
        self.next += 1;
        let mut request = json!({"id": id, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            request["sessionId"] = json!(session);
        }
        let mut bytes = request.to_string().into_bytes();
        bytes.push(0);
        self.requests
            .write_all(&bytes)
            .context(|| format!("the browser is gone:\n{}", self.process.log_tail(10)))?;
        loop {
            let message = self.hear()?;
            if message["id"] == id {
                ensure!(message["error"].is_null(), "{method}: {}", message["error"]);
                return Ok(message["result"].clone());
            }
            self.note(&message);
        }
    }

    fn hear(&mut self) -> Result<Value> {
        loop {
            if let Some(end) = self.heard.iter().position(|byte| *byte == 0) {
                let rest = self.heard.split_off(end + 1);
                let message = std::mem::replace(&mut self.heard, rest);
                return serde_json::from_slice(&message[..end]).context(|| "the browser speaks no JSON");
            }
            let mut chunk = vec![0; 1 << 16];
            let length = self.answers.read(&mut chunk).context(|| "cannot hear the browser")?;
            ensure!(length > 0, "the browser ended:\n{}", self.process.log_tail(10));
            self.heard.extend_from_slice(&chunk[..length]);
        }
    }

    fn note(&mut self, message: &Value) {
        let parameters = &message["params"];
        let complaint = match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => &parameters["exceptionDetails"],
            Some("Log.entryAdded") => &parameters["entry"],
            Some("Runtime.consoleAPICalled") => &parameters["args"],
            _ => return,
        };
        self.complaints.push(complaint.to_string());
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // In order, so that its helpers go with it; if it does not, its process's guard sees to that.
        self.session = None;
        let close = json!({"id": self.next, "method": "Browser.close"}).to_string() + "\0";
        if self.requests.write_all(close.as_bytes()).is_ok() {
            let _ = self.process.wait_for_end(Duration::from_secs(5));
        }
    }
}

/// Where pictures for the documentation are.
#[must_use]
pub fn pictures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/pictures")
}
