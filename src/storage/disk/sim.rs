//! A simulated [`Disk`] that loses, tears and reorders what was not synced, fails and fills up.
//!
//! Owns the whole of a disk in memory, and decides everything by a seed. It never touches a real
//! file. It lives in the library because the tests of the crate and those beside it both run
//! storage on it. Its neighbours: the contract in [`disk`](super), [`Content`] for one file's
//! bytes, [`Names`] for the directory.

mod content;
mod file;
mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
#[expect(
    clippy::disallowed_types,
    reason = "redb calls its back end by shared reference from several threads, and this disk \
              exists under test alone"
)]
use std::sync::Mutex;
use std::sync::{Arc, MutexGuard, PoisonError};

use fastrand::Rng;
use rustix::io::Errno;

use self::content::Content;
use self::file::SimFile;
use self::names::{FileId, Names};
use super::{Disk, DiskFile};

/// Free space of a disk without a limit.
const AMPLE: u64 = 1 << 40;

/// A kind of call, for [`SimDisk::fail_next`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(
    missing_docs,
    reason = "each is the method of that name of `Disk` or `DiskFile`"
)]
pub enum Call {
    List,
    Open,
    Create,
    Rename,
    Unlink,
    SyncDir,
    FreeSpace,
    Len,
    ReadAt,
    WriteAt,
    SetLen,
    Sync,
}

impl Call {
    /// Whether the call changes what is on the disk, or what of it is durable.
    fn changes(self) -> bool {
        match self {
            Self::List | Self::Open | Self::FreeSpace | Self::Len | Self::ReadAt => false,
            Self::Create
            | Self::Rename
            | Self::Unlink
            | Self::SyncDir
            | Self::WriteAt
            | Self::SetLen
            | Self::Sync => true,
        }
    }
}

/// A disk in memory; clones are the same disk.
///
/// What each fault does:
///
/// - **power cut**: every write since a file's last sync is independently kept, lost, or torn at
///   sectors of 512 or 4096 bytes; changes of length are kept or lost; changes of names are kept or
///   lost, each atomically, and never without earlier ones of the same name or file. So a later
///   change may survive an earlier one.
/// - **failed sync**: the writes that it should have made durable stay visible and are never
///   written, even if a later sync succeeds; as Linux does it. Lengths survive in the journal.
/// - **failed write**: the first half was written. **Failed create, rename, unlink, change of
///   length**: it happened or it did not. **Failed sync of the directory**: nothing became durable,
///   a later one may still succeed.
/// - **full**: a write beyond the capacity is cut short, then refused with `StorageFull`. Holes take
///   no space, removed files do while they are open.
#[derive(Debug, Clone)]
pub struct SimDisk {
    #[expect(clippy::disallowed_types, reason = "see the import")]
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    random: Rng,
    names: Names,
    files: BTreeMap<FileId, Content>,
    /// Open handles of each file that has any.
    handles: BTreeMap<FileId, usize>,
    next_file: FileId,
    calls: u64,
    changes: u64,
    /// Power goes off when this many changes were made.
    cut_after: Option<u64>,
    failing_numbers: BTreeSet<u64>,
    failing_kinds: BTreeSet<Call>,
    capacity: Option<u64>,
    power: bool,
}

/// What one power cut does: how much it loses, and in which unit.
///
/// The rate is drawn once for each cut. With one rate for all, the cuts that lose all but one of
/// fifty writes, or only one of them, would never come.
struct Weather {
    random: Rng,
    /// In percent.
    keep: u8,
    sector: usize,
}

impl Weather {
    fn new(mut random: Rng) -> Self {
        let keep = random.choice([0, 10, 50, 90, 100]).unwrap_or_default();
        let sector = if random.bool() { 512 } else { content::PAGE };
        Self {
            random,
            keep,
            sector,
        }
    }

    fn keeps(&mut self) -> bool {
        self.random.u8(0..100) < self.keep
    }

    fn tears(&mut self) -> bool {
        self.random.bool()
    }
}

impl SimDisk {
    /// An empty disk; equal seeds and equal calls give equal faults.
    pub fn new(seed: u64) -> Self {
        Self::from_parts(
            Rng::with_seed(seed),
            Names::default(),
            BTreeMap::new(),
            0,
            None,
        )
    }

    fn from_parts(
        random: Rng,
        names: Names,
        files: BTreeMap<FileId, Content>,
        next_file: FileId,
        capacity: Option<u64>,
    ) -> Self {
        let state = State {
            random,
            names,
            files,
            handles: BTreeMap::new(),
            next_file,
            calls: 0,
            changes: 0,
            cut_after: None,
            failing_numbers: BTreeSet::new(),
            failing_kinds: BTreeSet::new(),
            capacity,
            power: true,
        };
        #[expect(clippy::disallowed_types, reason = "see the import")]
        let state = Arc::new(Mutex::new(state));
        Self { state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls made so far, of every kind.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Calls made so far that change the disk or make something durable.
    pub fn changes(&self) -> u64 {
        self.state().changes
    }

    /// Cuts the power when `changes` changes have been made in all: every later call fails.
    ///
    /// Counted in changes, because a cut between two reads leaves what one before them leaves.
    pub fn cut_after(&self, changes: u64) {
        self.state().cut_after = Some(changes);
    }

    /// Lets the call of that number fail, once; the first call of a disk is number 1.
    pub fn fail_call(&self, number: u64) {
        self.state().failing_numbers.insert(number);
    }

    /// Lets the next call of that kind fail, once.
    pub fn fail_next(&self, call: Call) {
        self.state().failing_kinds.insert(call);
    }

    /// Limits the bytes that all files together take; `None` is no limit.
    pub fn set_capacity(&self, capacity: Option<u64>) {
        self.state().capacity = capacity;
    }

    /// Cuts the power, if it is still on, and gives the disk as it is found afterwards.
    ///
    /// This disk and its open files fail every later call. Cutting again gives another of the
    /// possible outcomes of the same moment. Counters start anew, planned faults are gone, the
    /// capacity stays.
    #[must_use = "the disk itself is dead now"]
    pub fn power_cut(&self) -> Self {
        let mut state = self.state();
        state.power = false;
        let mut weather = Weather::new(state.random.fork());
        let names = state.names.after_power_cut(&mut weather);
        let kept = names.named();
        let files = state
            .files
            .iter()
            .filter(|(id, _)| kept.contains(id))
            .map(|(id, file)| (*id, file.after_power_cut(&mut weather)))
            .collect();
        Self::from_parts(
            weather.random,
            names,
            files,
            state.next_file,
            state.capacity,
        )
    }

    /// Ends the process that uses the disk, and gives the disk to the next one.
    ///
    /// Nothing that was seen is lost, and nothing becomes durable by it: a power cut may still
    /// follow. This disk and its open files fail every later call.
    #[must_use = "the disk itself is dead now"]
    pub fn kill(&self) -> Self {
        let mut state = self.state();
        state.power = false;
        let (random, names, files) = (
            state.random.fork(),
            state.names.clone(),
            state.files.clone(),
        );
        Self::from_parts(random, names, files, state.next_file, state.capacity)
    }

    fn open_file(&self, state: &mut State, file: FileId) -> Arc<dyn DiskFile> {
        *state.handles.entry(file).or_default() += 1;
        Arc::new(SimFile::new(self.clone(), file))
    }
}

impl State {
    /// Counts a call and says whether it fails; with the power off every call is an error.
    fn begin(&mut self, call: Call) -> io::Result<bool> {
        if self.cut_after.is_some_and(|limit| self.changes >= limit) {
            self.power = false;
        }
        if !self.power {
            return Err(io::Error::other("the power is off"));
        }
        self.calls += 1;
        self.changes += u64::from(call.changes());
        let by_number = self.failing_numbers.remove(&self.calls);
        Ok(self.failing_kinds.remove(&call) || by_number)
    }

    /// Like `begin`, for calls that leave nothing behind when they fail.
    fn begin_whole(&mut self, call: Call) -> io::Result<()> {
        if self.begin(call)? {
            Err(Errno::IO.into())
        } else {
            Ok(())
        }
    }

    /// Like `begin`, for calls that may have happened when they fail: whether to do it, and what to
    /// say.
    fn begin_unsure(&mut self, call: Call) -> io::Result<(bool, io::Result<()>)> {
        let fails = self.begin(call)?;
        Ok(if fails {
            (self.random.bool(), Err(Errno::IO.into()))
        } else {
            (true, Ok(()))
        })
    }

    fn free(&self) -> u64 {
        let Some(capacity) = self.capacity else {
            return AMPLE;
        };
        let named = self.names.named();
        let in_use = |id| named.contains(id) || self.handles.contains_key(id);
        let taken = self
            .files
            .iter()
            .filter(|(id, _)| in_use(id))
            .map(|(_, file)| file.space());
        capacity.saturating_sub(taken.sum())
    }

    fn content(&mut self, file: FileId) -> io::Result<&mut Content> {
        self.files
            .get_mut(&file)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Forgets the content of files that nothing can reach any more, not even after a power cut.
    fn sweep(&mut self) {
        let reachable = self.names.files();
        self.files
            .retain(|id, _| reachable.contains(id) || self.handles.contains_key(id));
    }
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.begin_whole(Call::List)?;
        Ok(state.names.list())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.begin_whole(Call::Open)?;
        let file = state.names.find(name)?;
        Ok(self.open_file(&mut state, file))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        let (happens, answer) = state.begin_unsure(Call::Create)?;
        let file = state.next_file;
        if happens {
            state.next_file += 1;
            state.files.insert(file, Content::default());
            state.names.create(name, file);
        }
        answer?;
        Ok(self.open_file(&mut state, file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        let (happens, answer) = state.begin_unsure(Call::Rename)?;
        if happens {
            state.names.rename(from, to)?;
        }
        answer
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        let (happens, answer) = state.begin_unsure(Call::Unlink)?;
        if happens {
            state.names.unlink(name)?;
        }
        answer
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.state();
        state.begin_whole(Call::SyncDir)?;
        state.names.sync();
        state.sweep();
        Ok(())
    }

    fn free_space(&self) -> io::Result<u64> {
        let mut state = self.state();
        state.begin_whole(Call::FreeSpace)?;
        Ok(state.free())
    }
}

#[cfg(test)]
mod tests;
