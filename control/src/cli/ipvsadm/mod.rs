//! The face that people and programs know from IPVS: `ipvsadm`, `ipvsadm-save` and `ipvsadm-restore`, which are
//! `directorctl` by other names. Grammar, output, complaints and exit statuses are those of ipvsadm 1.31.

mod command;
mod execute;
mod grammar;
mod help;
pub(super) mod meaning;
mod names;
mod options;
mod popt;
mod print;
mod refusals;
pub(super) mod restore;
mod sort;
mod stdout;
mod values;

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub use command::{
    Command, Complaint, Daemon, Flags, Format, Forwarding, Listing, Netmask, Server, Service, TunnelOptions,
    TunnelType,
};
pub use grammar::parse;
pub use names::{Names, NoNames, SystemNames};
pub use print::{Beside, Printer};

use crate::protocol::DEFAULT_SOCKET;
use execute::Director;
use stdout::Stdout;

/// The environment's word for the director's socket, since ipvsadm's grammar has none.
pub const SOCKET_VARIABLE: &str = "DIRECTOR_SOCKET";

/// One of the programs whose names are IPVS's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// `ipvsadm`.
    Ipvsadm,
    /// `ipvsadm-save`.
    Save,
    /// `ipvsadm-restore`.
    Restore,
}

impl Face {
    /// By the name a program was called with, whatever directory stands before it.
    pub fn of(program: &OsStr) -> Option<Face> {
        match Path::new(program).file_name()?.to_str()? {
            "ipvsadm" => Some(Face::Ipvsadm),
            "ipvsadm-save" => Some(Face::Save),
            "ipvsadm-restore" => Some(Face::Restore),
            _ => None,
        }
    }
}

/// Runs it with these arguments, the program's name first.
pub fn run(face: Face, arguments: &[OsString]) -> ExitCode {
    let mut words = arguments.iter().map(|word| word.to_string_lossy().into_owned());
    let program = words.next().unwrap_or_else(|| "ipvsadm".to_owned());
    let words: Vec<String> = words.collect();
    let socket =
        std::env::var_os(SOCKET_VARIABLE).map_or_else(|| PathBuf::from(DEFAULT_SOCKET), PathBuf::from);
    let names = SystemNames::default();
    let mut out = Stdout::new(std::io::stdout().lock());
    let mut session = Session {
        program: &program,
        names: &names,
        director: Director::new(&socket, &names),
        out: &mut out,
        input: &mut std::io::stdin().lock(),
    };
    let status = match face {
        Face::Ipvsadm => session.run(&words),
        Face::Save => session.save(&words),
        Face::Restore => session.restore_all(),
    };
    let status = out.finish().map_or_else(
        |complaint| {
            eprintln!("{}", complaint.text);
            complaint.status
        },
        |()| status,
    );
    ExitCode::from(status)
}

struct Session<'a> {
    program: &'a str,
    names: &'a dyn Names,
    director: Director<'a>,
    out: &'a mut dyn Write,
    input: &'a mut dyn BufRead,
}

impl Session<'_> {
    /// The whole program, whose exit status is returned.
    fn run(&mut self, words: &[String]) -> u8 {
        let result = if words.is_empty() {
            // Nothing at all lists services, with their names.
            self.director.carry_out(&Command::List(Listing::Services, Format::default()), self.out)
        } else {
            match parse(self.program, words, self.names) {
                Ok(Command::Restore) => return self.restore(),
                parsed => parsed.and_then(|command| self.carry_out(&command)),
            }
        };
        result.map_or_else(|complaint| self.complain(&complaint), |()| 0)
    }

    fn carry_out(&mut self, command: &Command) -> Result<(), Complaint> {
        match command {
            Command::Help => self.say(&help::help(self.program)),
            Command::Version => self.say(help::VERSION),
            command => return self.director.carry_out(command, self.out),
        }
        Ok(())
    }

    /// `-R`: line by line. One that is wrong ends it, one that is refused does not; the last one's status counts.
    fn restore(&mut self) -> u8 {
        let mut status = 0;
        loop {
            let words = match restore::next_line(self.input) {
                Ok(Some(words)) => words,
                Ok(None) => return status,
                Err(error) => return self.complain(&unread(&error)),
            };
            if words.is_empty() {
                continue;
            }
            let parsed = match parse(self.program, &words, self.names) {
                // It would begin again with what is left.
                Ok(Command::Restore) => Err(Complaint::try_help(self.program)),
                parsed => parsed,
            };
            // The help and the version end ipvsadm.
            let ends = matches!(parsed, Ok(Command::Help | Command::Version));
            match parsed.and_then(|command| self.carry_out(&command)) {
                Ok(()) => status = 0,
                Err(complaint) => {
                    status = self.complain(&complaint);
                    if complaint.ends {
                        return status;
                    }
                }
            }
            if ends {
                return status;
            }
        }
    }

    /// `ipvsadm-save [-n]`.
    fn save(&mut self, words: &[String]) -> u8 {
        let mut numeric = false;
        for word in words.iter().filter(|word| word.starts_with('-')) {
            if word != "-n" {
                let name = Path::new(self.program).file_name().unwrap_or_default().to_string_lossy();
                eprintln!(
                    "{name}: writes the virtual services and real servers to standard output.\n   -n: addresses and ports as numbers."
                );
                return 1;
            }
            numeric = true;
        }
        let format = Format { numeric, ..Format::default() };
        let result = self.director.carry_out(&Command::Save(format), self.out);
        result.map_or_else(|complaint| self.complain(&complaint), |()| 0)
    }

    /// `ipvsadm-restore`: all of standard input but comments, after what there is has been cleared.
    fn restore_all(&mut self) -> u8 {
        let mut rules = Vec::new();
        loop {
            let mut line = Vec::new();
            match self.input.read_until(b'\n', &mut line) {
                Ok(0) => break,
                // Half of the rules are not the rules.
                Err(error) => return self.complain(&unread(&error)),
                Ok(_) if line.starts_with(b"#") => {}
                Ok(_) => rules.extend(line),
            }
        }
        if rules.last().is_some_and(|last| *last != b'\n') {
            rules.push(b'\n');
        }
        if let Err(complaint) = self.director.carry_out(&Command::Clear, self.out) {
            let status = self.complain(&complaint);
            if complaint.ends {
                return status;
            }
        }
        let mut rules = rules.as_slice();
        let mut session = Session {
            program: self.program,
            names: self.names,
            director: Director::new(self.director.socket(), self.names),
            out: &mut *self.out,
            input: &mut rules,
        };
        session.restore()
    }

    fn say(&mut self, text: &str) {
        // What went wrong is told at the end.
        let _ = self.out.write_all(text.as_bytes());
    }

    fn complain(&mut self, complaint: &Complaint) -> u8 {
        let _ = self.out.flush();
        if !complaint.text.is_empty() {
            eprintln!("{}", complaint.text);
        }
        complaint.status
    }
}

/// Rules that cannot be read.
fn unread(error: &std::io::Error) -> Complaint {
    Complaint { text: format!("cannot read the rules from standard input: {error}"), status: 1, ends: true }
}
