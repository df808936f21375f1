//! Manual pages and shell completions, made from what clap knows, so that they say what the programs say.

use std::fs;
use std::path::Path;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::error::{Context as _, Result};

/// Writes `man/PROGRAM[-COMMAND].SECTION` and `completions/{bash,zsh,fish}/...`, by the names that Debian gives them.
///
/// # Errors
/// When the directory cannot be emptied or written to.
pub fn write(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory).context(|| format!("cannot empty {}", directory.display()))?;
    }
    for (command, section) in [(director::cli::command(), 8), (control::cli::command(), 1)] {
        completions(&command, &directory.join("completions"))?;
        manual(command, section, &directory.join("man"))?;
    }
    Ok(())
}

fn completions(command: &Command, directory: &Path) -> Result<()> {
    let name = command.get_name().to_owned();
    for (shell, file) in [
        (Shell::Bash, format!("bash/{name}")),
        (Shell::Zsh, format!("zsh/_{name}")),
        (Shell::Fish, format!("fish/{name}.fish")),
    ] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command.clone(), &name, &mut script);
        put(&directory.join(file), &script)?;
    }
    Ok(())
}

/// A page for the program and one for each command, `git`'s way.
fn manual(mut command: Command, section: u8, directory: &Path) -> Result<()> {
    // Global options are in the page of the program alone, and `help` needs none.
    command = command.disable_help_subcommand(true);
    command.build();
    page(&command, section, directory)
}

fn page(command: &Command, section: u8, directory: &Path) -> Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let man = Man::new(command.clone()).section(section.to_string()).manual("Director");
    let mut page = Vec::new();
    man.render(&mut page).context(|| format!("cannot write the page of {name}"))?;
    put(&directory.join(format!("{name}.{section}")), &page)?;
    for child in command.get_subcommands().filter(|child| !child.is_hide_set()) {
        self::page(child, section, directory)?;
    }
    Ok(())
}

fn put(file: &Path, bytes: &[u8]) -> Result<()> {
    let directory = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory).context(|| format!("cannot make {}", directory.display()))?;
    fs::write(file, bytes).context(|| format!("cannot write {}", file.display()))
}
