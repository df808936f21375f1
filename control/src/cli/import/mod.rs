//! `directorctl import`: rules of other programs as tables of the configuration.

mod ipvsadm;
mod keepalived;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::output;
use super::session::Failure;
use super::tables;
use crate::model::{Edit, EditError, Limits, Model, ServiceKey};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Rules as ipvsadm -S -n prints them and ipvsadm -R reads them
    #[command(after_help = "\
Examples:
  directorctl import ipvsadm /etc/ipvsadm.rules > services.toml
  ipvsadm -S -n | directorctl import ipvsadm -

What could not be carried over is said on standard error and stands in a comment; so do choices that were made.")]
    Ipvsadm {
        /// The file; - for standard input
        file: PathBuf,
    },

    /// The virtual_server blocks of a keepalived.conf
    #[command(after_help = "\
Examples:
  directorctl import keepalived /etc/keepalived/keepalived.conf > services.toml

What could not be carried over is said on standard error and stands in a comment; so do choices that were made.")]
    Keepalived {
        /// The file; - for standard input
        file: PathBuf,
    },
}

pub(super) fn run(command: &Command) -> Result<(), Failure> {
    let (file, import): (_, fn(&str) -> Imported) = match command {
        Command::Ipvsadm { file } => (file, ipvsadm::import),
        Command::Keepalived { file } => (file, keepalived::import),
    };
    let imported = import(&read(file)?);
    for note in imported.lost() {
        eprintln!("directorctl: {note}");
    }
    output::print(imported.toml().as_bytes())
}

fn read(file: &Path) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_end(&mut bytes).map(|_| ())
    } else {
        std::fs::read(file).map(|read| bytes = read)
    };
    read.map_err(|error| Failure::Input(file.display().to_string(), error))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What came of an import.
#[derive(Debug, Default)]
struct Imported {
    model: Model,
    /// What is said about a service above it.
    about: BTreeMap<ServiceKey, Vec<String>>,
    /// Settings of the whole director, as lines of the configuration.
    settings: Vec<String>,
    /// What could not be carried over, with the line it stood in.
    lost: Vec<String>,
}

impl Imported {
    /// Makes an edit; a service that is edited has its notes for good or ill.
    fn make(&mut self, edit: &Edit) -> Result<(), EditError> {
        let limits = Limits { services: usize::MAX, servers: usize::MAX };
        let change = self.model.change(edit, &limits)?;
        if change.service.is_none() {
            self.about.remove(&change.key);
        }
        self.model.make(change);
        Ok(())
    }

    /// A choice that was made for a service.
    fn note(&mut self, service: ServiceKey, note: impl Into<String>) {
        let (note, notes) = (note.into(), self.about.entry(service).or_default());
        if !notes.contains(&note) {
            notes.push(note);
        }
    }

    /// What stood in a line and is not carried over.
    fn lose(&mut self, line: usize, what: impl std::fmt::Display) {
        self.lost.push(format!("line {line}: not carried over: {what}"));
    }

    fn lost(&self) -> &[String] {
        &self.lost
    }

    fn toml(&self) -> String {
        let mut text = String::new();
        for note in &self.lost {
            let _ = writeln!(text, "# {note}");
        }
        let mut parts: Vec<String> = Vec::new();
        if !text.is_empty() {
            parts.push(text);
        }
        if !self.settings.is_empty() {
            parts.push(self.settings.iter().map(|line| format!("{line}\n")).collect());
        }
        for (key, service) in self.model.services() {
            parts.push(tables::service(service, self.about.get(key).map_or(&[], Vec::as_slice)));
        }
        parts.join("\n")
    }
}
