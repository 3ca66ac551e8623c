//! A directory of the operating system as a [`Disk`].
//!
//! Owns the directory's handle and its `LOCK` file: as long as a [`RealDisk`] lives, no second
//! broker opens the same directory. Every name is resolved against the handle, so a directory that
//! is moved while in use stays the same disk. It never looks into a file. Its neighbours: the
//! contract in [`disk`](super), and whoever starts the broker. A directory that is only to be
//! looked at is [taken for reading](RealDisk::inspect), and nothing in it changes.

use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::num::NonZeroU64;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Advice, AtFlags, CWD, Dir, FileType, Mode, OFlags};

use super::{Disk, DiskFile};

/// Bytes of a write from which on the disk is told to begin at once, so that it works while the
/// next piece is copied, and the sync that follows waits for little.
const EAGER: u64 = 256 << 10;

/// How far behind a large read the disk is told to read on, in bytes.
const READ_AHEAD: u64 = 4 << 20;

/// The name of the file whose lock says that the directory is in use.
const LOCK: &str = "LOCK";

/// Decimal digits of the longest process id, and some more: a `LOCK` file is read no further.
const LOCK_BYTES: u64 = 32;

/// Who may read and write a file that is made: its owner alone, as it holds other people's records.
/// Others get what an administrator gives them; what exists keeps its mode.
const FILE_MODE: u32 = 0o600;

/// The same of a directory.
const DIRECTORY_MODE: u32 = 0o700;

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenDiskError {
    /// Another broker holds the directory.
    #[error(
        "{} is in use by {}: stop that broker first, or give this one another directory",
        directory.display(),
        holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    InUse {
        /// The directory asked for.
        directory: PathBuf,
        /// The process that holds it; `None` in the moment before it has written its id.
        holder: Option<u32>,
    },
    /// The operating system refused.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        doing: &'static str,
        /// What it was tried on.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// A directory that this process alone uses; its `LOCK` is released on drop.
#[derive(Debug)]
pub struct RealDisk {
    directory: File,
    /// Held for its lock; the id inside is for whoever is refused. A copy that no broker has ever
    /// used has none.
    _lock: Option<File>,
    /// Whether nothing may be changed.
    read_only: bool,
}

impl RealDisk {
    /// Takes a directory, creating it (durably, with its parents) where it is missing.
    ///
    /// # Errors
    /// [`OpenDiskError::InUse`] names the process that holds the directory.
    pub fn open(directory: &Path) -> Result<Self, OpenDiskError> {
        create_dir_durably(directory).map_err(failed("create the directory", directory))?;
        let handle = open_directory(directory).map_err(failed("open the directory", directory))?;
        let path = directory.join(LOCK);
        let flags = OFlags::RDWR | OFlags::CREATE;
        let mut lock = open_at(&handle, LOCK, flags).map_err(failed("open", &path))?;
        take(&mut lock, directory)?;
        write_holder(&mut lock).map_err(failed("write", &path))?;
        Ok(Self {
            directory: handle,
            _lock: Some(lock),
            read_only: false,
        })
    }

    /// Takes an existing directory so that no broker uses it meanwhile, to look at it alone: nothing
    /// but the id in its `LOCK` is written, and on a read-only file system not even that.
    ///
    /// # Errors
    /// [`OpenDiskError::InUse`] names the process that holds the directory.
    pub fn inspect(directory: &Path) -> Result<Self, OpenDiskError> {
        let handle = open_directory(directory).map_err(failed("open the directory", directory))?;
        let path = directory.join(LOCK);
        let writable = open_at(&handle, LOCK, OFlags::RDWR);
        let may_write = writable.is_ok();
        let lock = writable.or_else(|_| open_at(&handle, LOCK, OFlags::RDONLY));
        let lock = match lock {
            Ok(mut lock) => {
                take(&mut lock, directory)?;
                if may_write {
                    write_holder(&mut lock).map_err(failed("write", &path))?;
                }
                Some(lock)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed("open", &path)(error)),
        };
        Ok(Self {
            directory: handle,
            _lock: lock,
            read_only: true,
        })
    }

    /// The directory to change something in; refused where that was promised.
    fn changing(&self) -> io::Result<&File> {
        if self.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        Ok(&self.directory)
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenDiskError + use<> {
    let path = path.to_owned();
    move |source| OpenDiskError::Io {
        doing,
        path,
        source,
    }
}

fn open_directory(directory: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let handle = rustix::fs::openat(CWD, directory, flags, Mode::empty())?;
    Ok(File::from(handle))
}

/// Takes the lock of a directory.
fn take(lock: &mut File, directory: &Path) -> Result<(), OpenDiskError> {
    match lock.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            let (directory, holder) = (directory.to_owned(), holder(lock));
            Err(OpenDiskError::InUse { directory, holder })
        }
        Err(TryLockError::Error(error)) => Err(failed("lock", &directory.join(LOCK))(error)),
    }
}

/// Creates a directory and its missing parents, and syncs the parent of each one created: else a
/// power cut could take the whole directory with everything that was synced in it.
fn create_dir_durably(directory: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = directory
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && !path.exists())
        .collect();
    for path in missing.into_iter().rev() {
        match DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

/// Says in a lock file that this process holds it.
fn write_holder(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    writeln!(lock, "{}", std::process::id())
}

/// The process id in a lock file, if one is there.
fn holder(lock: &mut File) -> Option<u32> {
    lock.rewind().ok()?;
    let mut text = String::new();
    lock.take(LOCK_BYTES).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Opens a file of a directory.
fn open_at(directory: &File, name: &str, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(FILE_MODE);
    Ok(File::from(rustix::fs::openat(
        directory, name, flags, mode,
    )?))
}

/// Refuses names that would leave the directory or touch its lock.
fn checked(name: &str) -> io::Result<&str> {
    if name.is_empty() || name == "." || name == ".." || name == LOCK || name.contains('/') {
        let text = format!("{name:?} is not the name of a file on this disk");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(name)
}

impl Disk for RealDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.directory)? {
            let entry = entry?;
            // Nothing here was named by us if it is not text.
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            let kind = match entry.file_type() {
                // Some file systems don't keep the kind beside the name.
                FileType::Unknown => {
                    let found = rustix::fs::statat(&self.directory, name, AtFlags::empty());
                    let Ok(found) = found else { continue };
                    FileType::from_raw_mode(found.st_mode)
                }
                kind => kind,
            };
            if kind == FileType::RegularFile && name != LOCK {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let flags = if self.read_only {
            OFlags::RDONLY
        } else {
            OFlags::RDWR
        };
        let file = open_at(&self.directory, checked(name)?, flags)?;
        Ok(RealFile::new(file))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let name = checked(name)?;
        // A file of that name may still be read through an open handle: it keeps its content, the
        // name goes to a new one.
        match self.unlink(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let file = open_at(self.changing()?, name, flags)?;
        Ok(RealFile::new(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (checked(from)?, checked(to)?);
        let directory = self.changing()?;
        Ok(rustix::fs::renameat(directory, from, directory, to)?)
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        let directory = self.changing()?;
        Ok(rustix::fs::unlinkat(
            directory,
            checked(name)?,
            AtFlags::empty(),
        )?)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.directory.sync_all()
    }

    fn free_space(&self) -> io::Result<u64> {
        let found = rustix::fs::fstatvfs(&self.directory)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

/// An open file; system calls interrupted or cut short are gone on with.
#[derive(Debug)]
struct RealFile {
    file: File,
    /// How far the disk was told to read on.
    ahead: AtomicU64,
}

impl RealFile {
    fn new(file: File) -> Arc<Self> {
        let ahead = AtomicU64::new(0);
        Arc::new(Self { file, ahead })
    }

    /// Whoever reads much goes on behind it: the disk works while that is checked and sent.
    fn read_ahead(&self, offset: u64, length: u64) {
        let to = offset + length + READ_AHEAD;
        let told = self.ahead.load(Ordering::Relaxed);
        // What is read now comes first.
        let goes_on = (offset..=to).contains(&told);
        let from = if goes_on { told } else { offset };
        if let Some(length) = NonZeroU64::new(to - from).filter(|it| it.get() >= EAGER) {
            self.ahead.store(to, Ordering::Relaxed);
            // It is advice, so nobody depends on its outcome.
            let _ = rustix::fs::fadvise(&self.file, from, Some(length), Advice::WillNeed);
        }
    }
}

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if out.len() as u64 >= EAGER {
            self.read_ahead(offset, out.len() as u64);
        }
        self.file.read_exact_at(out, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)?;
        if let Some(length) = NonZeroU64::new(bytes.len() as u64).filter(|it| it.get() >= EAGER) {
            // Linux begins to write what is dirty in the range, and drops nothing of it; elsewhere
            // this may do nothing. It is advice, so nobody depends on its outcome.
            let _ = rustix::fs::fadvise(&self.file, offset, Some(length), Advice::DontNeed);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn scratch() -> (tempfile::TempDir, RealDisk) {
        let directory = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(directory.path()).unwrap();
        (directory, disk)
    }

    #[test]
    fn a_second_broker_is_refused_with_the_id_of_the_first() {
        let (directory, disk) = scratch();
        let refused = RealDisk::open(directory.path()).unwrap_err();
        let text = refused.to_string();
        assert!(
            text.contains(&format!("process {}", std::process::id())),
            "{text}"
        );
        assert!(text.contains("another directory"), "{text}");

        drop(disk);
        RealDisk::open(directory.path()).unwrap();
    }

    #[test]
    fn a_lock_file_left_by_a_killed_process_stops_nobody() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(LOCK), "4194999999\n").unwrap();
        RealDisk::open(directory.path()).unwrap();
        let text = fs::read_to_string(directory.path().join(LOCK)).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()));
    }

    #[test]
    fn a_missing_directory_is_created_with_its_parents() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().join("a/b/c");
        let disk = RealDisk::open(&directory).unwrap();
        disk.create("x").unwrap();
        disk.sync_dir().unwrap();
        assert!(directory.join("x").exists());
    }

    #[test]
    fn what_is_made_is_for_its_owner_alone_and_what_exists_keeps_its_mode() {
        let scratch = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let chmod = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let directory = scratch.path().join("a/b");
        let disk = RealDisk::open(&directory).unwrap();
        disk.create("1.redb").unwrap();
        disk.rename("1.redb", "2.redb").unwrap();
        for (path, expected) in [("a", 0o700), ("a/b", 0o700), ("a/b/LOCK", 0o600)] {
            assert_eq!(mode(&scratch.path().join(path)), expected, "{path}");
        }
        assert_eq!(mode(&directory.join("2.redb")), 0o600);
        drop(disk);
        chmod(&directory, 0o750);
        chmod(&directory.join(LOCK), 0o640);
        chmod(&directory.join("2.redb"), 0o640);
        let disk = RealDisk::open(&directory).unwrap();
        disk.open("2.redb").unwrap().write_at(0, b"x").unwrap();
        assert_eq!(mode(&directory), 0o750);
        assert_eq!(mode(&directory.join(LOCK)), 0o640);
        assert_eq!(mode(&directory.join("2.redb")), 0o640);
    }

    #[test]
    fn a_file_where_the_directory_should_be_is_named_in_the_error() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("file");
        fs::write(&path, "").unwrap();
        let text = RealDisk::open(&path).unwrap_err().to_string();
        assert!(text.contains("cannot open the directory"), "{text}");
        assert!(text.contains(path.to_str().unwrap()), "{text}");
    }

    #[test]
    fn files_are_created_renamed_listed_and_unlinked_and_the_lock_is_not_among_them() {
        let (directory, disk) = scratch();
        fs::create_dir(directory.path().join("lost+found")).unwrap();
        disk.create("1.new").unwrap().write_at(0, b"one").unwrap();
        disk.create("2.new").unwrap();
        disk.rename("1.new", "1.redb").unwrap();
        disk.unlink("2.new").unwrap();
        disk.sync_dir().unwrap();
        assert_eq!(disk.list().unwrap(), ["1.redb"]);
        assert_eq!(
            disk.open("1.new").unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        for name in ["", ".", "..", "../1.redb", "a/b", LOCK] {
            let refused = disk.open(name).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{name:?}");
        }
    }

    #[test]
    fn an_open_file_keeps_its_content_when_its_name_is_removed_or_created_anew() {
        let (_directory, disk) = scratch();
        let old = disk.create("x").unwrap();
        old.write_at(0, b"old").unwrap();
        disk.create("x").unwrap().write_at(0, b"new").unwrap();
        let mut found = [0; 3];
        old.read_at(0, &mut found).unwrap();
        assert_eq!(&found, b"old");
        disk.open("x").unwrap().read_at(0, &mut found).unwrap();
        assert_eq!(&found, b"new");
    }

    #[test]
    fn reads_and_writes_are_positioned_and_a_read_beyond_the_end_fails() {
        let (_directory, disk) = scratch();
        let file = disk.create("x").unwrap();
        file.write_at(4, b"abcd").unwrap();
        file.set_len(10).unwrap();
        file.sync().unwrap();
        let mut found = [1; 10];
        file.read_at(0, &mut found).unwrap();
        assert_eq!(&found, b"\0\0\0\0abcd\0\0");
        let beyond = file.read_at(1, &mut found).unwrap_err();
        assert_eq!(beyond.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(file.len().unwrap(), 10);
    }

    #[test]
    fn a_directory_taken_for_reading_is_locked_and_does_not_change() {
        let (directory, disk) = scratch();
        let refused = RealDisk::inspect(directory.path()).unwrap_err();
        assert!(matches!(refused, OpenDiskError::InUse { .. }), "{refused}");
        disk.create("x").unwrap().write_at(0, b"kept").unwrap();
        drop(disk);
        let disk = RealDisk::inspect(directory.path()).unwrap();
        RealDisk::open(directory.path()).unwrap_err();
        let file = disk.open("x").unwrap();
        file.write_at(0, b"gone").unwrap_err();
        file.set_len(0).unwrap_err();
        disk.unlink("x").unwrap_err();
        disk.rename("x", "y").unwrap_err();
        disk.create("x").unwrap_err();
        let mut found = [0; 4];
        file.read_at(0, &mut found).unwrap();
        assert_eq!(&found, b"kept");
        // One that no broker has ever used, such as a copy, has no lock and gets none.
        let copy = tempfile::tempdir().unwrap();
        let disk = RealDisk::inspect(copy.path()).unwrap();
        assert_eq!(disk.list().unwrap(), [""; 0]);
        assert!(!copy.path().join(LOCK).exists());
        RealDisk::inspect(&copy.path().join("missing")).unwrap_err();
    }

    #[test]
    fn free_space_is_that_of_the_file_system() {
        let (_directory, disk) = scratch();
        assert!(disk.free_space().unwrap() > 0);
    }
}
