//! `directorctl`: the operator's hand on a running director.

use std::process::ExitCode;

fn main() -> ExitCode {
    control::cli::run(std::env::args_os())
}
