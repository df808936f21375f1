//! A file of configuration on its way to the director.

use std::io::Read as _;
use std::path::Path;

use super::session::Failure;

/// The text of a file, or of standard input, and what it is called.
pub(super) fn read(file: &Path) -> Result<(String, String), Failure> {
    let named = |error| Failure::Input(file.display().to_string(), error);
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(named)?;
        return Ok((text, "standard input".to_owned()));
    }
    let text = std::fs::read_to_string(file).map_err(named)?;
    // The director's directory is another one.
    let full = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    Ok((text, full.display().to_string()))
}
