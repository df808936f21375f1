//! Where the project's own programs are.

use std::path::PathBuf;

use crate::error::{Context as _, Result};
use crate::fail;

/// The path of `director`, `directorctl` or `testbed`: beside the program that asks, or one directory up
/// (cargo puts tests into `deps`). `DIRECTOR_BIN_DIR` names another directory.
///
/// # Errors
/// When it has not been built.
pub fn find(program: &str) -> Result<PathBuf> {
    let directories = if let Some(directory) = std::env::var_os("DIRECTOR_BIN_DIR") {
        vec![PathBuf::from(directory)]
    } else {
        let me = std::env::current_exe().context(|| "cannot tell where this program is")?;
        me.ancestors().skip(1).take(2).map(PathBuf::from).collect()
    };
    if let Some(path) =
        directories.iter().map(|directory| directory.join(program)).find(|path| path.is_file())
    {
        return Ok(path);
    }
    let looked: Vec<String> = directories.iter().map(|directory| directory.display().to_string()).collect();
    fail!(
        "there is no `{program}` in {}; build it first: cargo build --workspace (with --release if the tests are \
         run so), or name its directory in DIRECTOR_BIN_DIR",
        looked.join(" nor in ")
    );
}
