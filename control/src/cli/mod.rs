//! `directorctl`: commands, their arguments and their output.
