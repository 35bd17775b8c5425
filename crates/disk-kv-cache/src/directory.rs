//! The directory of a store: made private, refused on network file systems, locked while it is opened.

use std::fs::{self, DirBuilder, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::engine::EngineKind;
use crate::{Damage, OpenError};

/// What tells one file from every other while it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl From<&Metadata> for Identity {
    fn from(metadata: &Metadata) -> Identity {
        Identity { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// Names the network file system a path is on, if it is on one.
pub(crate) type Network = fn(&Path) -> io::Result<Option<&'static str>>;

/// The canonical path of a directory that exists. With `network`, it is refused on network file systems.
pub(crate) fn existing(path: &Path, network: Option<Network>) -> Result<PathBuf, OpenError> {
    let found = path.metadata().and_then(|metadata| Ok((metadata, path.canonicalize()?)));
    match found {
        Ok((metadata, path)) if metadata.is_dir() => {
            refuse_network(&path, network)?;
            Ok(path)
        }
        Ok((_, path)) => Err(OpenError::NotADirectory { path }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(OpenError::Absent { path: path.to_path_buf() }),
        Err(error) => Err(OpenError::io(path, "look at the directory", error)),
    }
}

/// As [`existing`], but makes the directory, with mode 0700, if there is none. One that exists keeps its mode.
pub(crate) fn existing_or_new(path: &Path, network: Option<Network>) -> Result<PathBuf, OpenError> {
    match existing(path, network) {
        Err(OpenError::Absent { .. }) => {}
        found => return found,
    }
    let io = |action, error| OpenError::io(path, action, error);
    let full = std::path::absolute(path).map_err(|error| io("find the directory", error))?;
    let missing = full.ancestors().take_while(|ancestor| !ancestor.exists());
    let missing: Vec<&Path> = missing.collect();
    // Before anything is made there; what is made lies on the file system of what holds it.
    if let Some(holder) = missing.last().and_then(|first| first.parent()) {
        refuse_network(holder, network)?;
    }
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&full);
    made.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => OpenError::NotADirectory { path: full.clone() },
        _ => io("create the directory", error),
    })?;
    // A commit is only as durable as the names that lead to it.
    for holder in missing.iter().filter_map(|made| made.parent()) {
        let synced = Directory::open(holder).and_then(|holder| holder.sync());
        synced.map_err(|error| io("sync the directory above", error))?;
    }
    full.canonicalize().map_err(|error| io("find the directory", error))
}

/// The file that every commit changes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DataFile {
    pub(crate) identity: Identity,
    pub(crate) bytes: u64,
}

/// Longer than any file beside the data that is read whole.
const SMALL_BYTES: u64 = 64 << 10;

/// The bytes of a small regular file. What lies there instead is an error and is not waited for: a pipe, a link, a file
/// without an end.
pub(crate) fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    let mut options = File::options();
    let file = options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > SMALL_BYTES {
        let what = format!("{} is no regular file of up to {SMALL_BYTES} bytes: remove it", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    let mut bytes = Vec::new();
    file.take(SMALL_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Looks at an engine's files without opening them. (Opening and closing `lock.mdb` would drop the locks that LMDB holds
/// on it for this process: POSIX record locks belong to the process, not to the descriptor.) No links are followed.
pub(crate) fn data_file(dir: &Path, kind: EngineKind) -> Result<Option<DataFile>, OpenError> {
    let look = |name: &str| {
        let file = dir.join(name);
        match fs::symlink_metadata(&file) {
            Ok(metadata) => Ok(Some((file, metadata))),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(OpenError::io(dir, "look at its files", error)),
        }
    };
    let odd = |file| OpenError::Damaged { path: dir.to_path_buf(), damage: Damage::NotAFile { file } };
    let files = kind.files();
    for name in files.all {
        let holds_data = files.data.strip_prefix(name).is_some_and(|rest| rest.starts_with('/'));
        if let Some((file, metadata)) = look(name)?
            && !(if holds_data { metadata.is_dir() } else { metadata.is_file() })
        {
            return Err(odd(file));
        }
    }
    match look(files.data)? {
        Some((_, metadata)) if metadata.is_file() => {
            Ok(Some(DataFile { identity: Identity::from(&metadata), bytes: metadata.len() }))
        }
        Some((file, _)) => Err(odd(file)),
        None => Ok(None),
    }
}

/// An open directory, to lock.
#[derive(Debug)]
pub(crate) struct Directory(File);

/// Held while the data file is created, checked or made longer; among all processes.
#[derive(Debug)]
pub(crate) struct Locked<'d>(&'d Directory);

impl Directory {
    pub(crate) fn open(path: &Path) -> io::Result<Directory> {
        File::open(path).map(Directory)
    }

    /// Waits for other processes, and for other `Directory` values of this one.
    pub(crate) fn lock(&self) -> io::Result<Locked<'_>> {
        self.0.lock()?;
        Ok(Locked(self))
    }

    /// Syncs the names in it.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // Cannot fail on a descriptor that is open and was locked; closing it would unlock as well.
        let _ = self.0.0.unlock();
    }
}

fn refuse_network(path: &Path, network: Option<Network>) -> Result<(), OpenError> {
    let Some(network) = network else {
        return Ok(());
    };
    match network(path) {
        Ok(None) => Ok(()),
        Ok(Some(file_system)) => Err(OpenError::NetworkFileSystem { path: path.to_path_buf(), file_system }),
        Err(error) => Err(OpenError::io(path, "ask for the kind of file system", error)),
    }
}

/// The name of the network or cluster file system a path is on, if it is on one that is known here.
///
/// FUSE mounts (sshfs, virtiofs and the like) all look alike and are let through; so is everything on systems other than
/// Linux.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn network_file_system(path: &Path) -> io::Result<Option<&'static str>> {
    use std::ffi::CString;
    use std::mem::MaybeUninit;
    use std::os::unix::ffi::OsStrExt;

    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut answer = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: `path` is a NUL-terminated string and `answer` has room for a `statfs`; both outlive the call.
    if unsafe { libc::statfs(path.as_ptr(), answer.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so it has filled in the whole structure.
    let kind = unsafe { answer.assume_init() }.f_type;
    // Magic numbers have 32 bits; the field is wider, and signed on some systems.
    Ok(name_of_network_magic(kind as u32))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn network_file_system(_path: &Path) -> io::Result<Option<&'static str>> {
    Ok(None)
}

/// From statfs(2) and Linux' `include/uapi/linux/magic.h`; those without an entry there from coreutils' `stat`.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn name_of_network_magic(magic: u32) -> Option<&'static str> {
    Some(match magic {
        0x6969 => "NFS",
        0x517B => "SMB",
        0xFE53_4D42 => "SMB2",
        0xFF53_4D42 => "CIFS",
        0x5346_414F | 0x6B41_4653 => "AFS",
        0x7375_7245 => "Coda",
        0x564C => "NCP",
        0x00C3_6400 => "Ceph",
        0x0102_1997 => "9P",
        0x0116_1970 => "GFS2",
        0x7461_636F => "OCFS2",
        0x0BD0_0BD0 => "Lustre",
        0x4750_4653 => "GPFS",
        0x1983_0326 => "BeeGFS",
        0x786F_4256 => "VirtualBox shared folders",
        0xBACB_ACBC => "VMware shared folders",
        0x7C7C_6673 => "Parallels shared folders",
        0x6163_6673 => "ACFS",
        0x0131_11A8 => "IBRIX",
        0xAAD7_AAEA => "PanFS",
        0xBEEF_DEAD => "StorNext",
        _ => return None,
    })
}

#[cfg(all(test, any(target_os = "linux", target_os = "android")))]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_known_by_their_magic() {
        for (magic, name) in [(0x6969, "NFS"), (0xFF53_4D42, "CIFS"), (0x0102_1997, "9P")] {
            assert_eq!(name_of_network_magic(magic), Some(name));
        }
        // ext4, tmpfs, btrfs, xfs, overlayfs
        for local in [0xEF53, 0x0102_1994, 0x9123_683E, 0x5846_5342, 0x794C_7630] {
            assert_eq!(name_of_network_magic(local), None, "{local:#x}");
        }
    }

    #[test]
    fn the_kind_of_file_system_is_asked_of_the_path() {
        assert_eq!(network_file_system(Path::new("/proc")).unwrap(), None);
        let error = network_file_system(Path::new("/no/such/path")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_network_file_system_is_refused_before_anything_is_made_there() {
        let nfs: Network = |_| Ok(Some("NFS"));
        let there = tempfile::tempdir().unwrap();
        let new = there.path().join("new/store");
        for path in [there.path(), &new] {
            for refused in [existing_or_new(path, Some(nfs)), existing(there.path(), Some(nfs))] {
                let named = matches!(refused, Err(OpenError::NetworkFileSystem { file_system: "NFS", .. }));
                assert!(named, "{refused:?}");
            }
        }
        assert!(!there.path().join("new").exists());
        existing_or_new(&new, None).unwrap();
        assert!(new.is_dir());
        existing_or_new(&there.path().join("other"), Some(|_| Ok(None))).unwrap();
    }

    #[test]
    fn the_lock_excludes_other_openings() {
        let dir = tempfile::tempdir().unwrap();
        let ours = Directory::open(dir.path()).unwrap();
        let theirs = Directory::open(dir.path()).unwrap();
        let locked = ours.lock().unwrap();
        assert!(theirs.0.try_lock().is_err());
        drop(locked);
        assert!(theirs.0.try_lock().is_ok());
    }
}
