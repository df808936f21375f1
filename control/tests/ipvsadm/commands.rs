//! Command lines, right and wrong: what is complained about, with which status, and what the kernel is asked.
//!
//! `commands.txt` has after each `$ LINE` the exit status `=`, questions to the kernel `?` and complaints `!`.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use control::cli::ipvsadm::{Names, SystemNames, parse};

use super::netlink;
use super::original::{original, records};

/// A command line and what came of it.
#[derive(Debug, PartialEq, Eq)]
struct Record {
    line: String,
    outcome: Vec<String>,
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/ipvsadm/commands.txt")
}

fn read() -> Vec<Record> {
    let mut all: Vec<Record> = Vec::new();
    for line in fs::read_to_string(path()).expect("commands.txt").lines() {
        match (line.strip_prefix("$ "), all.last_mut()) {
            (Some(line), _) => all.push(Record { line: line.to_owned(), outcome: Vec::new() }),
            (None, Some(last)) if line.starts_with(['=', '?', '!']) => last.outcome.push(line.to_owned()),
            _ => {}
        }
    }
    all
}

/// Words as a shell has them, with single quotes only.
fn words(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let (mut quoted, mut within) = (false, false);
    for c in line.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                if !within {
                    words.push(String::new());
                    within = true;
                }
            }
            ' ' if !quoted => within = false,
            c => {
                if !within {
                    words.push(String::new());
                    within = true;
                }
                if let Some(word) = words.last_mut() {
                    word.push(c);
                }
            }
        }
    }
    words
}

/// Hosts as `/etc/hosts` has them everywhere; ports as this machine's `/etc/services` has them.
struct FewNames(SystemNames);

impl Names for FewNames {
    fn host(&self, name: &str) -> Option<Ipv4Addr> {
        (name == "localhost").then_some(Ipv4Addr::LOCALHOST)
    }

    fn port(&self, name: &str, protocol: u8) -> Option<u16> {
        self.0.port(name, protocol)
    }

    fn host_name(&self, _: IpAddr) -> Option<String> {
        None
    }

    fn port_name(&self, port: u16, protocol: u8) -> Option<String> {
        self.0.port_name(port, protocol)
    }
}

/// What comes of it here, up to where a kernel would be asked.
fn ours(line: &str) -> Vec<String> {
    match parse("ipvsadm", &words(line), &FewNames(SystemNames::default())) {
        Ok(command) => match netlink::question(&command) {
            Some(question) => vec![format!("? {question}")],
            None => vec!["= 0".to_owned()],
        },
        Err(complaint) => {
            let mut outcome = vec![format!("= {}", complaint.status)];
            outcome.extend(complaint.text.split('\n').map(|line| format!("! {line}")));
            outcome
        }
    }
}

#[test]
fn command_lines_are_understood_as_by_the_original() {
    let all = read();
    assert!(all.len() >= 150, "only {} command lines", all.len());
    let mut wrong = String::new();
    for record in &all {
        let asks = record.outcome.iter().find(|line| line.starts_with('?'));
        let recorded: Vec<String> = match asks {
            // What a kernel answers is no matter of the grammar.
            Some(question) => vec![question.clone()],
            None => record.outcome.clone(),
        };
        let ours = ours(&record.line);
        if ours != recorded {
            let _ = writeln!(wrong, "$ {}\n  recorded {recorded:?}\n  ours     {ours:?}", record.line);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn command_lines_are_recorded_as_the_original_takes_them() {
    let Some(original) = original() else { return };
    let mut text = String::from("# What Debian's ipvsadm 1.31 does; see commands.rs.\n");
    let mut wrong = String::new();
    for record in read() {
        let run = original.run(&words(&record.line), "", "nothing\n");
        let mut outcome = vec![format!("= {}", run.status)];
        outcome.extend(run.asked.iter().map(|question| format!("? {question}")));
        outcome.extend(run.errors.lines().map(|line| format!("! {line}")));
        if outcome != record.outcome {
            let _ =
                writeln!(wrong, "$ {}\n  recorded {:?}\n  original {outcome:?}", record.line, record.outcome);
        }
        let _ = writeln!(text, "\n$ {}\n{}", record.line, outcome.join("\n"));
    }
    if records() {
        fs::write(path(), text).expect("commands.txt can be written");
    } else {
        assert!(wrong.is_empty(), "{wrong}");
    }
}
