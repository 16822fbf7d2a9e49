//! The broker's UNIX socket: owned by one broker, open to one user, gone when the broker is.
//!
//! A lock file beside the socket says who the broker is. The lock is the kernel's, so it ends with
//! the process that held it, however that ended: a socket whose lock is free is stale and may be
//! removed, one whose lock is held never is (SEC-001). A socket that answers although its lock is
//! free belongs to a broker that knows no lock; it is left alone too.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, FlockOperation};
use tokio::net::UnixListener;
use tracing::info;

/// Longest path that the kernel takes for a socket.
const MAX_PATH: usize = 107;

/// Why this process cannot be the broker at a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// The path is longer than the kernel takes.
    #[error(
        "socket path of {bytes} bytes is over the limit of {MAX_PATH}; take a shorter one than `{}`",
        path.display()
    )]
    TooLong {
        /// The path.
        path: PathBuf,
        /// Its length.
        bytes: usize,
    },
    /// The directory is open to other users.
    #[error(
        "directory `{}` has mode {mode:04o}; the socket needs one of its own with mode 0700",
        path.display()
    )]
    OpenDirectory {
        /// The directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The directory is another user's.
    #[error("directory `{}` belongs to uid {uid}, not to this user", path.display())]
    ForeignDirectory {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// Something that is no socket is at the path.
    #[error("`{}` is not a socket; it is left as it is", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// Another broker is there.
    #[error("another broker listens at `{}`", path.display())]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// The system said no.
    #[error("cannot {action} `{}`: {reason}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SocketError {
    move |e| SocketError::Io {
        action,
        path: path.to_owned(),
        reason: e.to_string(),
    }
}

/// The right to listen at a path, held until it is dropped.
#[derive(Debug)]
pub(super) struct SocketLock {
    path: PathBuf,
    _file: File,
}

impl Drop for SocketLock {
    fn drop(&mut self) {
        // Removed while it is still held: whoever waits for it finds the name gone and starts over.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A socket that this process has bound; dropping it removes it.
#[derive(Debug)]
pub(super) struct OwnedSocket {
    path: PathBuf,
    _lock: SocketLock,
}

impl Drop for OwnedSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Takes the lock of the socket at `path`: [`SocketError::InUse`] if another process has it.
pub(super) fn claim(path: &Path) -> Result<SocketLock, SocketError> {
    check_length(path)?;
    prepare_directory(path)?;
    let lock_path = lock_of(path);
    let in_use = || SocketError::InUse {
        path: path.to_owned(),
    };
    let lock = take_lock(&lock_path)?.ok_or_else(in_use)?;
    if UnixStream::connect(path).is_ok() {
        return Err(in_use());
    }
    Ok(lock)
}

/// Whether a broker could listen at `path` now. Nothing is made or changed, so it may be another answer
/// a moment later.
///
/// # Errors
/// [`SocketError`], as the broker would have it.
pub fn examine(path: &Path) -> Result<(), SocketError> {
    check_length(path)?;
    let directory = directory_of(path);
    // The nearest one that is there is where the others would be made.
    let found = directory.ancestors().find(|directory| directory.exists());
    let nearest = found.unwrap_or(Path::new("."));
    if nearest == directory {
        check_directory(directory)?;
    }
    rustix::fs::access(nearest, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|e| failed("write in directory", nearest)(e.into()))?;
    let in_use = || SocketError::InUse {
        path: path.to_owned(),
    };
    if let Ok(lock) = OpenOptions::new().write(true).open(lock_of(path)) {
        // Let go of at once: the claim of one that starts just now fails, and it tries again or says so.
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared) {
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(in_use()),
            _ => drop(lock),
        }
    }
    if UnixStream::connect(path).is_ok() {
        return Err(in_use());
    }
    match path.symlink_metadata() {
        Ok(metadata) if !metadata.file_type().is_socket() => Err(SocketError::NotASocket {
            path: path.to_owned(),
        }),
        _ => Ok(()),
    }
}

fn check_length(path: &Path) -> Result<(), SocketError> {
    let bytes = path.as_os_str().len();
    if bytes <= MAX_PATH {
        return Ok(());
    }
    Err(SocketError::TooLong {
        path: path.to_owned(),
        bytes,
    })
}

fn lock_of(path: &Path) -> PathBuf {
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    lock.into()
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn prepare_directory(path: &Path) -> Result<(), SocketError> {
    let directory = directory_of(path);
    if !directory.exists() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(failed("create directory", directory))?;
    }
    check_directory(directory)
}

/// Whether it is this user's alone.
fn check_directory(directory: &Path) -> Result<(), SocketError> {
    let metadata = directory
        .metadata()
        .map_err(failed("look at directory", directory))?;
    if !metadata.is_dir() {
        let reason = io::ErrorKind::NotADirectory.into();
        return Err(failed("use as a directory", directory)(reason));
    }
    let uid = rustix::process::geteuid().as_raw();
    if metadata.uid() != uid {
        let path = directory.to_owned();
        return Err(SocketError::ForeignDirectory {
            path,
            uid: metadata.uid(),
        });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SocketError::OpenDirectory {
            path: directory.to_owned(),
            mode,
        });
    }
    Ok(())
}

/// Locks the file at `path`; `None` if another process holds it.
fn take_lock(path: &Path) -> Result<Option<SocketLock>, SocketError> {
    loop {
        let file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(failed("open lock file", path))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(e) => return Err(failed("lock", path)(e.into())),
        }
        // The last holder may have removed the name between our open and our lock.
        let ours = file.metadata().map_err(failed("look at lock file", path))?;
        match path.metadata() {
            Ok(named) if (named.dev(), named.ino()) == (ours.dev(), ours.ino()) => {
                return Ok(Some(SocketLock {
                    path: path.to_owned(),
                    _file: file,
                }));
            }
            _ => {}
        }
    }
}

/// Listens at `path`, which `lock` gives the right to.
pub(super) fn bind(
    path: &Path,
    lock: SocketLock,
) -> Result<(UnixListener, OwnedSocket), SocketError> {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.file_type().is_socket() => {
            info!(socket = %path.display(), "stale socket removed");
            std::fs::remove_file(path).map_err(failed("remove stale socket", path))?;
        }
        Ok(_) => {
            return Err(SocketError::NotASocket {
                path: path.to_owned(),
            });
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(failed("listen at", path))?;
    let socket = OwnedSocket {
        path: path.to_owned(),
        _lock: lock,
    };
    // Nobody else gets into the directory, so the moment before this does no harm.
    std::fs::set_permissions(path, Permissions::from_mode(0o600))
        .map_err(failed("set the mode of", path))?;
    Ok((listener, socket))
}
