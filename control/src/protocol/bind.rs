//! Getting hold of the socket's name in the file system, and giving it back.

use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// Why no socket could be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A daemon answers there.
    #[error(
        "{} is in use by the running process {}; stop that director first, or give this one another `socket`",
        path.display(), pid.map_or_else(|| "(unknown)".to_owned(), |pid| pid.to_string())
    )]
    InUse {
        /// The socket.
        path: PathBuf,
        /// Who listens, if it could be told.
        pid: Option<i32>,
    },
    /// Something else has that name.
    #[error("{} exists and is not a socket; it is left alone: remove it, or set another `socket`", path.display())]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// The path cannot be a socket's.
    #[error("{} cannot be a socket's path ({why}); set another `socket`, a file in a directory", path.display())]
    BadPath {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The directory is missing and cannot be made.
    #[error("cannot create the directory {} of the socket: {source}; create it, or set another `socket`", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Anything else the kernel refused.
    #[error(
        "cannot {what} {}: {source}; make its directory writable for the director, or set another `socket`",
        path.display()
    )]
    Io {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// The socket's file; removed on drop unless somebody has put another one in its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    pub(super) path: PathBuf,
    device: u64,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        match std::fs::symlink_metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) == (self.device, self.inode) => {
                if let Err(error) = std::fs::remove_file(&self.path) {
                    tracing::warn!("cannot remove the socket {}: {error}", self.path.display());
                }
            }
            _ => tracing::debug!("the socket {} is not ours any more", self.path.display()),
        }
    }
}

/// Listens at `path`, mode 0660.
pub(super) fn bind(path: &Path) -> Result<(UnixListener, SocketFile), BindError> {
    let address = SocketAddrUnix::new(path).map_err(|_| BindError::BadPath {
        path: path.to_owned(),
        why: "longer than 107 bytes, or with a zero byte",
    })?;
    if path.file_name().is_none() {
        return Err(BindError::BadPath { path: path.to_owned(), why: "it names no file" });
    }
    make_directory(path)?;
    clear(path, &address)?;
    let failed = |what| move |source| BindError::Io { what, path: path.to_owned(), source };
    // The mask keeps strangers out between bind and chmod. It is the process's: it takes away nothing from the owner,
    // so that a directory made by another thread in this moment stays usable.
    // Two binds at a time would restore each other's mask.
    static MASK: Mutex<()> = Mutex::new(());
    let held = MASK.lock().unwrap_or_else(PoisonError::into_inner);
    let mask = rustix::process::umask(Mode::from_raw_mode(0o007));
    let bound = UnixListener::bind(path);
    rustix::process::umask(mask);
    drop(held);
    let listener = bound.map_err(|source| match source.kind() {
        // Somebody was faster than we after the check above.
        io::ErrorKind::AddrInUse => BindError::InUse { path: path.to_owned(), pid: None },
        _ => BindError::Io { what: "create the socket", path: path.to_owned(), source },
    })?;
    let found = std::fs::symlink_metadata(path).map_err(failed("look at the socket"))?;
    let file = SocketFile { path: path.to_owned(), device: found.dev(), inode: found.ino() };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))
        .map_err(failed("set the mode of the socket"))?;
    listener.set_nonblocking(true).map_err(failed("set up the socket"))?;
    Ok((listener, file))
}

/// Creates the directory of `path` if only its last component is missing.
fn make_directory(path: &Path) -> Result<(), BindError> {
    let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) else {
        return Ok(());
    };
    match std::fs::DirBuilder::new().mode(0o755).create(directory) {
        Ok(()) => Ok(()),
        Err(_) if directory.is_dir() => Ok(()),
        Err(source) => Err(BindError::Directory { path: directory.to_owned(), source }),
    }
}

/// Makes the name free: removes a socket nobody listens on, and refuses to touch anything else.
fn clear(path: &Path, address: &SocketAddrUnix) -> Result<(), BindError> {
    let failed = |what, source| BindError::Io { what, path: path.to_owned(), source };
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(BindError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at", error)),
    }
    // Non-blocking: a daemon that hangs with a full backlog must not hang us as well.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|error| failed("make a socket to try", error.into()))?;
    match rustix::net::connect(&probe, address) {
        Ok(()) => {
            let pid = rustix::net::sockopt::socket_peercred(&probe)
                .ok()
                .map(|peer| peer.pid.as_raw_nonzero().get());
            Err(BindError::InUse { path: path.to_owned(), pid })
        }
        Err(Errno::AGAIN) => Err(BindError::InUse { path: path.to_owned(), pid: None }),
        Err(Errno::CONNREFUSED) => {
            tracing::info!("removing {}: nobody listens on it any more", path.display());
            std::fs::remove_file(path).map_err(|error| failed("remove the stale socket", error))
        }
        Err(Errno::NOENT) => Ok(()),
        // A datagram socket, or one we may not open: somebody else's.
        Err(error) => Err(failed("find out who listens on", error.into())),
    }
}
