//! A simulated [`Disk`] that loses, tears and reorders what was not synced, fails and fills up.
//!
//! Owns the whole of a disk in memory, and decides everything by a seed. It never touches a real
//! file. It lives in the library because the tests of the crate and those beside it both run
//! storage on it. Its neighbours: the contract in [`disk`](super), [`Content`] for one file's
//! bytes, [`Names`] for the directory, [`Moment`] for both.

mod content;
mod file;
mod medium;
mod moment;
mod names;
mod weather;

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
use self::moment::{Moment, Recording};
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

/// Why a planned fault refuses a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// `EIO`.
    Broken,
    /// `ENOSPC`.
    Full,
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Broken => Errno::IO.into(),
            Fault::Full => Errno::NOSPC.into(),
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
///   change may survive an earlier one. Some cuts keep exactly what came before a change, others
///   exactly what came after it.
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
    now: Moment,
    /// Open handles of each file that has any.
    handles: BTreeMap<FileId, usize>,
    calls: u64,
    changes: u64,
    /// The change that is being made, counted over all processes.
    order: u64,
    /// Power goes off when this many changes were made.
    cut_after: Option<u64>,
    failing_numbers: BTreeSet<u64>,
    failing_changes: BTreeMap<u64, Fault>,
    failing_kinds: BTreeSet<Call>,
    /// Calls on files that have failed, with the number of the change and the file's name.
    failed: Vec<(u64, Call, String)>,
    /// Of a hundred syncs, how many are ignored.
    ignored_syncs: u8,
    capacity: Option<u64>,
    power: bool,
    recording: Option<Recording>,
}

impl SimDisk {
    /// An empty disk; equal seeds and equal calls give equal faults.
    pub fn new(seed: u64) -> Self {
        Self::holding(Moment::default(), Rng::with_seed(seed), 0, None)
    }

    fn holding(now: Moment, random: Rng, order: u64, capacity: Option<u64>) -> Self {
        let state = State {
            random,
            now,
            handles: BTreeMap::new(),
            calls: 0,
            changes: 0,
            order,
            cut_after: None,
            failing_numbers: BTreeSet::new(),
            failing_changes: BTreeMap::new(),
            failing_kinds: BTreeSet::new(),
            failed: Vec::new(),
            ignored_syncs: 0,
            capacity,
            power: true,
            recording: None,
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

    /// Lets the change of that number fail, once; the first change of a disk is number 1.
    pub fn fail_change(&self, number: u64, fault: Fault) {
        self.state().failing_changes.insert(number, fault);
    }

    /// The changes of files that have failed: which change, which call, and the file's name.
    pub fn failed(&self) -> Vec<(u64, Call, String)> {
        self.state().failed.clone()
    }

    /// Lets so many of a hundred syncs, of files and of the directory, do nothing and say that they
    /// succeeded.
    pub fn ignore_syncs(&self, percent: u8) {
        self.state().ignored_syncs = percent;
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
        let (random, order) = (state.random.fork(), state.order + 1);
        let (left, random) = state.now.after_power_cut(random, order);
        Self::holding(left, random, order, state.capacity)
    }

    /// Ends the process that uses the disk, and gives the disk to the next one.
    ///
    /// Nothing that was seen is lost, and nothing becomes durable by it: a power cut may still
    /// follow. This disk and its open files fail every later call.
    #[must_use = "the disk itself is dead now"]
    pub fn kill(&self) -> Self {
        let mut state = self.state();
        state.power = false;
        let (random, now) = (state.random.fork(), state.now.clone());
        Self::holding(now, random, state.order, state.capacity)
    }

    fn open_file(&self, state: &mut State, file: FileId) -> Arc<dyn DiskFile> {
        *state.handles.entry(file).or_default() += 1;
        Arc::new(SimFile::new(self.clone(), file))
    }
}

impl State {
    /// Counts a call and says whether it fails; with the power off every call is an error.
    fn begin(&mut self, call: Call) -> io::Result<Option<Fault>> {
        if self.cut_after.is_some_and(|limit| self.changes >= limit) {
            self.power = false;
        }
        if !self.power {
            return Err(io::Error::other("the power is off"));
        }
        self.calls += 1;
        let mut fails = None;
        if call.changes() {
            if let Some(recording) = &mut self.recording {
                recording.push(self.now.clone());
            }
            self.changes += 1;
            self.order += 1;
            fails = self.failing_changes.remove(&self.changes);
        }
        let by_number = self.failing_numbers.remove(&self.calls);
        let planned = self.failing_kinds.remove(&call) || by_number;
        Ok(fails.or(planned.then_some(Fault::Broken)))
    }

    /// Like `begin`, for calls that change a file: notes which one it was if it fails.
    fn begin_on(&mut self, call: Call, file: FileId) -> io::Result<Option<Fault>> {
        let fails = self.begin(call)?;
        if fails.is_some() {
            let name = self.now.names.name_of(file).unwrap_or_default().to_owned();
            self.failed.push((self.changes, call, name));
        }
        Ok(fails)
    }

    /// Like `begin`, for calls that leave nothing behind when they fail.
    fn begin_whole(&mut self, call: Call) -> io::Result<()> {
        match self.begin(call)? {
            Some(fault) => Err(fault.into()),
            None => Ok(()),
        }
    }

    /// For calls that may have happened when they fail: whether to do it, and what to say.
    fn unsure(&mut self, fails: Option<Fault>) -> (bool, io::Result<()>) {
        match fails {
            Some(fault) => (self.random.bool(), Err(fault.into())),
            None => (true, Ok(())),
        }
    }

    fn begin_unsure(&mut self, call: Call) -> io::Result<(bool, io::Result<()>)> {
        let fails = self.begin(call)?;
        Ok(self.unsure(fails))
    }

    /// Whether this sync is one that is ignored.
    fn lies(&mut self) -> bool {
        self.ignored_syncs > 0 && self.random.u8(..100) < self.ignored_syncs
    }

    fn free(&self) -> u64 {
        let Some(capacity) = self.capacity else {
            return AMPLE;
        };
        let named = self.now.names.named();
        let in_use = |id| named.contains(id) || self.handles.contains_key(id);
        let files = self.now.files.iter();
        let taken = files
            .filter(|(id, _)| in_use(id))
            .map(|(_, file)| file.space());
        capacity.saturating_sub(taken.sum())
    }

    fn file(&self, file: FileId) -> io::Result<&Content> {
        let found = self.now.files.get(&file);
        found
            .map(|file| &**file)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// A file's content, to be changed: no moment that is kept sees it.
    fn content(&mut self, file: FileId) -> io::Result<&mut Content> {
        let found = self.now.files.get_mut(&file);
        found
            .map(Arc::make_mut)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn names(&mut self) -> &mut Names {
        Arc::make_mut(&mut self.now.names)
    }

    /// Forgets the content of files that nothing can reach any more, not even after a power cut.
    fn sweep(&mut self) {
        let reachable = self.now.names.files();
        let handles = &self.handles;
        self.now
            .files
            .retain(|id, _| reachable.contains(id) || handles.contains_key(id));
    }
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.begin_whole(Call::List)?;
        Ok(state.now.names.list())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.begin_whole(Call::Open)?;
        let file = state.now.names.find(name)?;
        Ok(self.open_file(&mut state, file))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        let (happens, answer) = state.begin_unsure(Call::Create)?;
        let (file, at) = (state.now.next_file, state.order);
        if happens {
            state.now.next_file += 1;
            state.now.files.insert(file, Arc::default());
            state.names().create(at, name, file);
        }
        answer?;
        Ok(self.open_file(&mut state, file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        let (happens, answer) = state.begin_unsure(Call::Rename)?;
        if happens {
            let at = state.order;
            state.names().rename(at, from, to)?;
        }
        answer
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        let (happens, answer) = state.begin_unsure(Call::Unlink)?;
        if happens {
            let at = state.order;
            state.names().unlink(at, name)?;
        }
        answer
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.state();
        state.begin_whole(Call::SyncDir)?;
        if state.lies() {
            return Ok(());
        }
        state.names().sync();
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
