//! A UNIX socket that one process has, open to one user, gone when the server is.
//!
//! A lock file beside the socket says whose it is, as the broker's does. The lock is the kernel's, so it
//! ends with the process that held it: a socket whose lock is free is what a dead process has left. One
//! that answers all the same belongs to a process that knows no lock, and is left alone.
//!
//! Invariant: at no moment can another user connect, and nobody's socket is removed but one's own.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _,
    PermissionsExt as _,
};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// A socket that this process has bound; dropping it removes it.
#[derive(Debug)]
pub(super) struct OwnedSocket {
    path: PathBuf,
    /// Which file it is.
    file: (u64, u64),
    lock: Lock,
}

/// The right to listen at a path, until it is dropped.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    _file: File,
}

impl Drop for OwnedSocket {
    fn drop(&mut self) {
        // It may be gone already, with its directory, or be somebody's who asked for no lock.
        if identity(&self.path).is_ok_and(|file| file == self.file) {
            let _ = fs::remove_file(&self.path);
        }
        // While it is still held: whoever waits for it finds the name gone and makes another.
        let _ = fs::remove_file(&self.lock.path);
    }
}

impl OwnedSocket {
    /// Takes over what a dead process has left, and nothing else. A directory that is not there yet is
    /// made for this user alone, as the broker makes its own.
    pub(super) fn bind(path: &Path) -> io::Result<(UnixListener, Self)> {
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        if !directory.exists() {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(0o700).create(directory)?;
        }
        let lock = Lock::take(path)?;
        match path.symlink_metadata() {
            Ok(meta) if !meta.file_type().is_socket() => {
                return Err(io::Error::other("what is there is not a socket"));
            }
            Ok(_) if UnixStream::connect(path).is_ok() => return Err(in_use()),
            _ => {}
        }
        // Nobody else gets into this directory, so the moment before the mode is set does no harm.
        let private = directory.join(format!(".{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&private)?;
        let bound = bind_in(&private, path);
        let _ = fs::remove_dir_all(&private);
        let (listener, file) = bound?;
        let path = path.to_owned();
        Ok((listener, Self { path, file, lock }))
    }
}

fn bind_in(private: &Path, path: &Path) -> io::Result<(UnixListener, (u64, u64))> {
    let within = private.join("s");
    let listener = UnixListener::bind(&within)?;
    fs::set_permissions(&within, Permissions::from_mode(0o600))?;
    let file = identity(&within)?;
    fs::rename(&within, path)?;
    Ok((listener, file))
}

impl Lock {
    fn take(socket: &Path) -> io::Result<Self> {
        let mut path = socket.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        loop {
            let mut options = OpenOptions::new();
            options.create(true).write(true).truncate(false).mode(0o600);
            let file = options.open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(in_use()),
                Err(TryLockError::Error(reason)) => return Err(reason),
            }
            // The last holder may have removed the name between the two.
            let meta = file.metadata()?;
            if identity(&path).is_ok_and(|named| named == (meta.dev(), meta.ino())) {
                return Ok(Self { path, _file: file });
            }
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    path.symlink_metadata().map(|meta| (meta.dev(), meta.ino()))
}

fn in_use() -> io::Error {
    io::Error::other("another process listens there")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_one_process_alone_and_removed_by_who_bound_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("seen.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (listener, owned) = OwnedSocket::bind(&path).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        let refused = OwnedSocket::bind(&path).unwrap_err().to_string();
        assert_eq!(refused, "another process listens there");
        let names = || fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(names(), 2, "the socket and its lock");
        // Somebody who knows no lock puts another in its place.
        drop(listener);
        fs::remove_file(&path).unwrap();
        let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop(owned);
        assert!(
            UnixStream::connect(&path).is_ok(),
            "it is not ours to remove"
        );
        assert_eq!(names(), 1);
        let refused = OwnedSocket::bind(&path).unwrap_err().to_string();
        assert_eq!(refused, "another process listens there");
        drop(other);
        let (_listener, owned) = OwnedSocket::bind(&path).unwrap();
        drop(owned);
        assert_eq!(names(), 0);
        fs::write(&path, "a file").unwrap();
        assert!(OwnedSocket::bind(&path).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"a file");
    }
}
