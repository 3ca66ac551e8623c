//! One segment: a redb database in a file of the data directory, and the ways to open it.
//!
//! Owns the redb handle and who may still write through it. It never knows which segment is the
//! active one. Its neighbours: the [writer](super::writer) fills segments, the
//! [keeper](super::keeper) opens sealed ones and closes what was active, the
//! [reader](super::reader) takes snapshots.
//!
//! ```text
//!   N.new --create--> empty --first flush--> N.redb, active --rotation--> sealed --close--> clean
//!                                               |
//!                                   failed commit or crash: fenced, or found unclean;
//!                                   from then on read through an overlay, never written
//! ```

use std::any::Any;
use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;

use redb::{
    Builder, ConcurrencyMode, Database, DatabaseError, ReadOnlyDatabase, ReadTransaction,
    ReadableDatabase, StorageError, TableHandle, WriteTransaction,
};

use super::backend::{Backend, Witness};
use super::disk::{Disk, DiskFile};
use super::header::{self, Trust};
use super::keeper::Chore;
use super::layout::{self, FORMAT, FlushRow, INDEX, LOG, META, STATE};
use super::overlay::Overlay;
use super::sums;

/// What redb says of the progress of a repair, 0 to 1, that goes on with the commit before the last.
const FELL_BACK: (f64, f64) = (0.1, 0.5);

/// To whom a data directory belongs, the same in all its segments, and what else they need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) cluster: [u8; 16],
    pub(super) node: u64,
    /// Whether the last flushes of a segment may be in the journal alone.
    pub(super) journaled: bool,
    /// How long the journal is, in bytes; 0 where that is not said.
    pub(super) journal_bytes: u64,
    /// What the journal ends with; 0 for one that was made before it had a mark.
    pub(super) journal_id: u64,
    /// What tells this segment from any other of its number; 0 for one that was made before there
    /// were births.
    pub(super) birth: u64,
}

impl Identity {
    /// The same directory's, for a new segment.
    pub(super) fn of_segment(self, number: u64, salt: u64) -> Self {
        Self {
            birth: mixed(salt ^ number),
            ..self
        }
    }

    fn features(self) -> u32 {
        if self.journaled {
            layout::FEATURE_JOURNAL
        } else {
            0
        }
    }
}

/// Something else for each number, and never 0: a round of the splitmix64 finalizer, so that
/// neighbours have nothing in common.
pub(super) fn mixed(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (word ^ (word >> 27)).max(1)
}

/// Why a segment cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum SegmentError {
    #[error("the file does not exist")]
    Missing,
    #[error(transparent)]
    Io(io::Error),
    #[error("{0}")]
    Unreadable(String),
    #[error("it has format {found}, newer than {FORMAT}")]
    NewerFormat { found: u32 },
}

impl From<io::Error> for SegmentError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // About what the file holds, not about the disk: redb reports them this way too.
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => {
                Self::Unreadable(error.to_string())
            }
            _ => Self::Io(error),
        }
    }
}

impl From<redb::Error> for SegmentError {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) => error.into(),
            // About the handle, which is of no use any more, and not about what is read.
            redb::Error::PreviousIo => Self::Io(io::Error::other("a read of the file has failed")),
            other => Self::Unreadable(other.to_string()),
        }
    }
}

macro_rules! from_redb {
    ($($error:ident),*) => {$(
        impl From<redb::$error> for SegmentError {
            fn from(error: redb::$error) -> Self {
                redb::Error::from(error).into()
            }
        }
    )*};
}
from_redb!(
    TransactionError,
    TableError,
    StorageError,
    CommitError,
    CursorError
);

impl From<DatabaseError> for SegmentError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Storage(StorageError::Io(error)) => error.into(),
            other => Self::Unreadable(other.to_string()),
        }
    }
}

impl From<layout::Damage> for SegmentError {
    fn from(damage: layout::Damage) -> Self {
        Self::Unreadable(damage.0)
    }
}

thread_local! {
    /// Whether this thread runs what may panic on a damaged file.
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// From now on a panic that is caught here says nothing on stderr: it becomes an error, which is
/// said by whoever asked. Once for a process.
pub fn quiet_guarded_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !IS_GUARDED.get() {
            before(panic);
        }
    }));
}

/// Runs what calls redb: it may panic on a damaged file, and that must end a call, not a thread.
pub(super) fn guarded<T>(
    body: impl FnOnce() -> Result<T, SegmentError>,
) -> Result<T, SegmentError> {
    let outer = IS_GUARDED.replace(true);
    // Whatever a panic leaves half done is given up with the segment's handle.
    let done = catch_unwind(AssertUnwindSafe(body));
    IS_GUARDED.set(outer);
    done.unwrap_or_else(|panic| {
        Err(SegmentError::Unreadable(format!(
            "redb gave up: {}",
            panic_text(panic.as_ref())
        )))
    })
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("panic")
}

/// An open segment; shared by whoever reads it.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    /// See [`Identity`]; 0 also before it was [identified](Self::identify).
    pub(super) birth: u64,
    /// Whether it was found to be the one that the catalogue means.
    vouched: AtomicBool,
    db: Option<Handle>,
    file: Arc<dyn DiskFile>,
    fence: Arc<AtomicBool>,
    witness: Option<Arc<Witness>>,
    /// Where a writable handle goes to be closed, since closing syncs.
    closer: Option<Sender<Chore>>,
    /// When it was read last, on the readers' own clock.
    used: AtomicU64,
}

enum Handle {
    Writable(Database),
    Clean(ReadOnlyDatabase),
    Overlaid(Database),
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Writable(_) => "Writable",
            Self::Clean(_) => "Clean",
            Self::Overlaid(_) => "Overlaid",
        })
    }
}

impl Segment {
    /// Makes an unborn segment of an empty file: its tables, empty and synced.
    pub(super) fn create(
        file: Arc<dyn DiskFile>,
        number: u64,
        identity: Identity,
        cache_bytes: usize,
        closer: Option<Sender<Chore>>,
    ) -> Result<Self, SegmentError> {
        let fence = Arc::new(AtomicBool::new(false));
        let backend = Backend::new(Arc::new(Fenced {
            file: file.clone(),
            fence: fence.clone(),
        }));
        let witness = Some(backend.witness());
        guarded(|| {
            let db = Builder::new()
                .set_cache_size(cache_bytes)
                .create_with_backend(backend)?;
            let txn = db.begin_write()?;
            {
                let mut meta = txn.open_table(META)?;
                meta.insert(layout::META_FORMAT, &FORMAT.to_be_bytes()[..])?;
                meta.insert(layout::META_SEGMENT, &number.to_be_bytes()[..])?;
                meta.insert(layout::META_CLUSTER, &identity.cluster[..])?;
                meta.insert(layout::META_NODE, &identity.node.to_be_bytes()[..])?;
                meta.insert(layout::META_BIRTH, &identity.birth.to_be_bytes()[..])?;
                let journal_bytes = identity.journal_bytes.to_be_bytes();
                meta.insert(layout::META_JOURNAL, &journal_bytes[..])?;
                let journal_id = identity.journal_id.to_be_bytes();
                meta.insert(layout::META_JOURNAL_ID, &journal_id[..])?;
                meta.insert(
                    layout::META_FEATURES,
                    &identity.features().to_be_bytes()[..],
                )?;
                txn.open_table(INDEX)?;
                txn.open_table(LOG)?;
                txn.open_table(STATE)?;
            }
            txn.commit()?;
            let db = Some(Handle::Writable(db));
            Ok(Self {
                number,
                birth: identity.birth,
                vouched: AtomicBool::new(false),
                db,
                file,
                fence,
                witness,
                closer,
                used: AtomicU64::new(0),
            })
        })
    }

    /// Opens a sealed segment: as it is where it was closed cleanly, else through an overlay; with
    /// or without redb's repair.
    pub(super) fn open_sealed(
        disk: &dyn Disk,
        number: u64,
        cache_bytes: usize,
    ) -> Result<Self, SegmentError> {
        let file = existing(disk, number)?;
        let backend = Backend::new(Arc::new(Fenced {
            file: file.clone(),
            fence: Arc::new(AtomicBool::new(true)),
        }));
        let opened = guarded(|| {
            match Builder::new()
                .set_cache_size(cache_bytes)
                .open_read_only_with_backend(backend)
            {
                Ok(db) => Ok(Some(db)),
                Err(DatabaseError::RepairAborted) => Ok(None),
                Err(error) => Err(error.into()),
            }
        });
        let opened = opened.and_then(|clean| {
            if let Some(db) = clean {
                return Ok(Self::sealed(number, Handle::Clean(db), file.clone()));
            }
            let overlay = Overlay::new(file.clone())?;
            Ok(Self::overlaid(number, overlay, file.clone(), cache_bytes, false)?.0)
        });
        let segment = match opened {
            // redb needs more of it than reads do.
            Err(SegmentError::Unreadable(_)) => {
                Self::unrepaired(number, as_closed(&file)?, file, cache_bytes)?
            }
            opened => opened?,
        };
        Ok(segment.identified()?.0)
    }

    /// Opens a segment so that redb can repair it without a write to the file, every page checked.
    ///
    /// redb looks at no checksum of its own in a file that was closed cleanly, and ours do not tell
    /// a page from an older one of the same place.
    pub(super) fn open_checked(
        disk: &dyn Disk,
        number: u64,
        cache_bytes: usize,
        trust: Trust,
    ) -> Result<(Self, Identity), SegmentError> {
        let file = existing(disk, number)?;
        let overlay = Overlay::new(file.clone())?;
        header::restrict(&overlay, trust)?;
        Self::overlaid(number, overlay, file, cache_bytes, true)
    }

    /// Opens a segment that was closed cleanly and does not stand the [check](Self::open_checked)
    /// because of its records alone: what it says of itself and its state are whole.
    ///
    /// Not for one that was killed: its last commit may be torn, and what the one before has of the
    /// same records may be whole. Every read looks for damage then, as in one that is
    /// [sealed](Self::open_sealed).
    pub(super) fn open_around_damage(
        disk: &dyn Disk,
        number: u64,
        cache_bytes: usize,
    ) -> Result<(Self, Identity), SegmentError> {
        let file = existing(disk, number)?;
        let view = as_closed(&file)?;
        sums::check(&view, &[META.name(), STATE.name()])?;
        Self::unrepaired(number, view, file, cache_bytes)?.begun()
    }

    /// One whose pages nobody has looked at, and whose file redb would have to repair first.
    fn unrepaired(
        number: u64,
        view: Overlay,
        file: Arc<dyn DiskFile>,
        cache_bytes: usize,
    ) -> Result<Self, SegmentError> {
        let db = guarded(|| {
            // Who reads beside a writer changes nothing, and asks for no repair; here nobody writes.
            Ok(Builder::new()
                .set_cache_size(cache_bytes)
                .set_concurrency_mode(ConcurrencyMode::SingleWriter)
                .open_read_only_with_backend(view)?)
        })?;
        Ok(Self::sealed(number, Handle::Clean(db), file))
    }

    fn overlaid(
        number: u64,
        overlay: Overlay,
        file: Arc<dyn DiskFile>,
        cache_bytes: usize,
        checked: bool,
    ) -> Result<(Self, Identity), SegmentError> {
        let db = guarded(|| {
            Ok(Builder::new()
                .set_cache_size(cache_bytes)
                .set_check_integrity_on_open(checked)
                .set_repair_callback(move |repair| {
                    // redb is so far only where the last commit did not stand its checksums.
                    if (FELL_BACK.0..FELL_BACK.1).contains(&repair.progress()) {
                        tracing::warn!(
                            segment = number,
                            "its last commit is not whole: taken for one that a power cut has torn \
                             before it was acknowledged"
                        );
                    }
                })
                .create_with_backend(overlay)?)
        })?;
        Self::sealed(number, Handle::Overlaid(db), file).begun()
    }

    /// Looks for the first flush, where there must be one.
    fn begun(self) -> Result<(Self, Identity), SegmentError> {
        let (segment, identity) = self.identified()?;
        // A merged one has no state.
        let was_active = segment.number < layout::FIRST_MERGED && identity.birth != 0;
        if was_active && segment.last_flush()?.number == 0 {
            let what = "what it began with is gone: that was on disk before the file had its name, \
                        so no power cut has torn it";
            return Err(SegmentError::Unreadable(what.into()));
        }
        Ok((segment, identity))
    }

    /// Knows from here on which one it is.
    fn identified(mut self) -> Result<(Self, Identity), SegmentError> {
        let identity = self.identify()?;
        self.birth = identity.birth;
        Ok((self, identity))
    }

    /// Whether this is the segment that the catalogue means, `born` so; 0 is any.
    pub(super) fn vouch(&self, born: u64) -> Result<(), SegmentError> {
        if born != 0 && born != self.birth {
            return Err(SegmentError::Unreadable(
                "it is not the file that was written here: another one has its name".into(),
            ));
        }
        self.vouched.store(true, Ordering::Release);
        Ok(())
    }

    /// Whether that is known already.
    pub(super) fn is_vouched(&self) -> bool {
        self.vouched.load(Ordering::Acquire)
    }

    /// Closes a segment that nobody else holds; an error if any write of it has failed.
    pub(super) fn close(mut self) -> Result<(), SegmentError> {
        if let Some(Handle::Writable(db)) = self.db.take() {
            guarded(|| Ok(db.close()?))?;
        }
        match &self.witness {
            Some(witness) if witness.failed() => {
                Err(SegmentError::Unreadable("a write of it has failed".into()))
            }
            _ => Ok(()),
        }
    }

    /// A handle through which nothing is ever written.
    fn sealed(number: u64, db: Handle, file: Arc<dyn DiskFile>) -> Self {
        Self {
            number,
            birth: 0,
            vouched: AtomicBool::new(false),
            db: Some(db),
            file,
            fence: Arc::new(AtomicBool::new(true)),
            witness: None,
            closer: None,
            used: AtomicU64::new(0),
        }
    }

    /// A snapshot of what is committed.
    pub(super) fn begin_read(&self) -> Result<ReadTransaction, SegmentError> {
        match &self.db {
            Some(Handle::Writable(db) | Handle::Overlaid(db)) => Ok(db.begin_read()?),
            Some(Handle::Clean(db)) => Ok(db.begin_read()?),
            None => Err(SegmentError::Unreadable(
                "the segment is being closed".into(),
            )),
        }
    }

    /// The last flush that is in the segment's file.
    pub(super) fn last_flush(&self) -> Result<FlushRow, SegmentError> {
        guarded(|| {
            let txn = self.begin_read()?;
            let row = txn.open_table(STATE)?.get(&FlushRow::key()[..])?;
            Ok(row.map_or(Ok(FlushRow::default()), |row| FlushRow::decode(row.value()))?)
        })
    }

    /// The write transaction; only the writer asks for it, and recovery for its view of a segment,
    /// before anybody reads there.
    pub(super) fn begin_write(&self) -> Result<WriteTransaction, SegmentError> {
        match &self.db {
            Some(Handle::Writable(db) | Handle::Overlaid(db)) => Ok(db.begin_write()?),
            _ => Err(SegmentError::Unreadable("the segment is sealed".into())),
        }
    }

    /// Whether pages may be overwritten once no transaction reads them.
    pub(super) fn is_writable(&self) -> bool {
        matches!(self.db, Some(Handle::Writable(_)))
    }

    /// Whether it is read as it was closed, and not through a view that redb has repaired.
    pub(super) fn is_clean(&self) -> bool {
        matches!(self.db, Some(Handle::Clean(_)))
    }

    /// Lets no write reach the file any more, redb's own at closing included.
    pub(super) fn fence(&self) {
        self.fence.store(true, Ordering::Release);
    }

    /// Notes that it is read at tick `now`.
    pub(super) fn touch(&self, now: u64) {
        self.used.fetch_max(now, Ordering::Relaxed);
    }

    /// The tick at which it was read last.
    pub(super) fn last_used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes of the file.
    pub(super) fn file_len(&self) -> Result<u64, SegmentError> {
        Ok(self.file.len()?)
    }

    /// Syncs asked for through this handle; 0 for a sealed segment.
    pub(super) fn syncs(&self) -> u64 {
        self.witness.as_ref().map_or(0, |witness| witness.syncs())
    }

    /// To whom the segment belongs, once its format is known to be readable.
    pub(super) fn identify(&self) -> Result<Identity, SegmentError> {
        guarded(|| {
            let txn = self.begin_read()?;
            let meta = txn.open_table(META)?;
            let read = |name: &str| -> Result<Vec<u8>, SegmentError> {
                let value = meta.get(name)?;
                value.map(|guard| guard.value().to_vec()).ok_or_else(|| {
                    SegmentError::Unreadable(format!("its meta table has no {name:?}"))
                })
            };
            let format = number(&read(layout::META_FORMAT)?);
            match u32::try_from(format) {
                Ok(found) if (1..=FORMAT).contains(&found) => {}
                Ok(found) if found > FORMAT => return Err(SegmentError::NewerFormat { found }),
                _ => return Err(SegmentError::Unreadable(format!("it has format {format}"))),
            }
            let segment = number(&read(layout::META_SEGMENT)?);
            if segment != self.number {
                return Err(SegmentError::Unreadable(format!(
                    "it calls itself segment {segment}: the file was renamed"
                )));
            }
            let cluster = read(layout::META_CLUSTER)?.try_into().unwrap_or_default();
            let features = number(&read(layout::META_FEATURES)?);
            let later = |name| -> Result<u64, SegmentError> {
                Ok(meta.get(name)?.map_or(0, |guard| number(guard.value())))
            };
            Ok(Identity {
                cluster,
                node: number(&read(layout::META_NODE)?),
                journaled: features & u64::from(layout::FEATURE_JOURNAL) != 0,
                journal_bytes: later(layout::META_JOURNAL)?,
                journal_id: later(layout::META_JOURNAL_ID)?,
                birth: later(layout::META_BIRTH)?,
            })
        })
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

/// A view of a file as if it had been closed after its last commit.
fn as_closed(file: &Arc<dyn DiskFile>) -> Result<Overlay, SegmentError> {
    let view = Overlay::new(file.clone())?;
    header::as_closed(&view)?;
    Ok(view)
}

/// An existing, non-empty segment file: in an empty one redb would create a database.
fn existing(disk: &dyn Disk, number: u64) -> Result<Arc<dyn DiskFile>, SegmentError> {
    let file = disk
        .open(&layout::segment_name(number))
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => SegmentError::Missing,
            _ => SegmentError::Io(error),
        })?;
    if file.is_empty()? {
        return Err(SegmentError::Unreadable("the file is empty".into()));
    }
    Ok(file)
}

impl Drop for Segment {
    fn drop(&mut self) {
        let number = self.number;
        let handle = self.db.take();
        // After a panic redb's own drop may panic as well.
        let dropped = guarded(|| {
            match (handle, &self.closer) {
                // Without a keeper the handle comes back in the error, and is closed here.
                (Some(Handle::Writable(db)), Some(closer)) => {
                    drop(closer.send(Chore::Close { number, db }));
                }
                (handle, _) => drop(handle),
            }
            Ok(())
        });
        if let Err(error) = dropped {
            tracing::warn!(segment = number, %error, "a segment was not closed");
        }
    }
}

/// A file that can be closed to writes while redb still holds it.
#[derive(Debug)]
struct Fenced {
    file: Arc<dyn DiskFile>,
    fence: Arc<AtomicBool>,
}

impl Fenced {
    fn pass(&self) -> io::Result<&dyn DiskFile> {
        if self.fence.load(Ordering::Acquire) {
            return Err(io::Error::other("this segment is not written any more"));
        }
        Ok(self.file.as_ref())
    }
}

impl DiskFile for Fenced {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, out)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.pass()?.write_at(offset, bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.pass()?.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.pass()?.sync()
    }

    fn finish(&self) -> io::Result<()> {
        self.pass()?.finish()
    }
}
