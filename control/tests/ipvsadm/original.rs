//! Debian's ipvsadm with a stand-in for the kernel (`kernel.c`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

/// Where Debian puts it.
const IPVSADM: &str = "/usr/sbin/ipvsadm";

/// The original, ready to be run.
pub(crate) struct Original {
    directory: TempDir,
    kernel: PathBuf,
}

/// What a run of it came to.
pub(crate) struct Run {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) errors: String,
    /// What it asked the kernel.
    pub(crate) asked: Vec<String>,
}

/// Whether the records are to be written anew.
pub(crate) fn records() -> bool {
    std::env::var_os("IPVSADM_RECORD").is_some()
}

/// The original; none where it is not installed, or there is no compiler for its kernel.
pub(crate) fn original() -> Option<&'static Original> {
    static ORIGINAL: OnceLock<Option<Original>> = OnceLock::new();
    let original = ORIGINAL.get_or_init(|| {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let kernel = directory.path().join("kernel.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ipvsadm/kernel.c");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&kernel)
            .arg(source)
            .arg("-ldl")
            .stderr(Stdio::null())
            .status();
        (Path::new(IPVSADM).exists() && compiled.is_ok_and(|status| status.success()))
            .then_some(Original { directory, kernel })
    });
    if original.is_none() {
        assert!(!records(), "there is no ipvsadm to record");
        eprintln!("ipvsadm or a C compiler is not installed: only the records are compared with");
    }
    original.as_ref()
}

impl Original {
    /// Runs it with these words; `answers` are the kernel's, `connections` its table.
    pub(crate) fn run(&self, words: &[String], answers: &str, connections: &str) -> Run {
        let path =
            |name: &str| self.directory.path().join(format!("{name}-{:?}", std::thread::current().id()));
        let (asked, answered, table) = (path("asked"), path("answers"), path("connections"));
        let _ = fs::remove_file(&asked);
        fs::write(&answered, answers).expect("a file of answers");
        fs::write(&table, connections).expect("a file of connections");
        let output = Command::new(IPVSADM)
            .args(words)
            .env("LD_PRELOAD", &self.kernel)
            .env("IPVS_ASKED", &asked)
            .env("IPVS_ANSWERS", &answered)
            .env("IPVS_CONNECTIONS", &table)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .output();
        let Output { status, stdout, stderr } = output.expect("ipvsadm starts");
        Run {
            status: status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&stdout).into_owned(),
            // It says by what path it was called.
            errors: String::from_utf8_lossy(&stderr).replace(IPVSADM, "ipvsadm"),
            asked: fs::read_to_string(&asked).unwrap_or_default().lines().map(str::to_owned).collect(),
        }
    }
}
