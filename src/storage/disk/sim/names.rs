//! The simulated directory: which names there are, and which a power cut would leave.
//!
//! Owns the order in which changes of names become durable. It knows nothing of content. Its
//! neighbours: [`SimDisk`](super::SimDisk) and [`Content`](super::content::Content).

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::weather::Weather;

/// The identity of a file, which it keeps under whatever name.
pub(super) type FileId = u64;

/// Names as programs see them, and as the journal has them.
///
/// After a power cut each change since the last sync is there or not, but never without the earlier
/// ones that touched the same name or the same file: a journal replays a file's history in order,
/// and promises nothing about that of different files. Each change is atomic: a rename leaves the
/// old state or the new one.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    seen: BTreeMap<String, FileId>,
    durable: BTreeMap<String, FileId>,
    /// With their places in the order of all changes of the disk.
    pending: Vec<(u64, Change)>,
}

#[derive(Debug, Clone)]
enum Change {
    Created {
        name: String,
        file: FileId,
    },
    Renamed {
        from: String,
        to: String,
        file: FileId,
    },
    Unlinked {
        name: String,
        file: FileId,
    },
}

impl Names {
    pub(super) fn list(&self) -> Vec<String> {
        self.seen.keys().cloned().collect()
    }

    pub(super) fn find(&self, name: &str) -> io::Result<FileId> {
        self.seen
            .get(name)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The name that a file has now.
    pub(super) fn name_of(&self, file: FileId) -> Option<&str> {
        let mut named = self.seen.iter().filter(|(_, id)| **id == file);
        named.next().map(|(name, _)| name.as_str())
    }

    /// The first change that is not durable.
    pub(super) fn first_pending(&self) -> Option<u64> {
        self.pending.first().map(|(at, _)| *at)
    }

    pub(super) fn create(&mut self, at: u64, name: &str, file: FileId) {
        let name = name.to_owned();
        self.change(at, Change::Created { name, file });
    }

    pub(super) fn rename(&mut self, at: u64, from: &str, to: &str) -> io::Result<()> {
        let file = self.find(from)?;
        let (from, to) = (from.to_owned(), to.to_owned());
        self.change(at, Change::Renamed { from, to, file });
        Ok(())
    }

    pub(super) fn unlink(&mut self, at: u64, name: &str) -> io::Result<()> {
        let file = self.find(name)?;
        let name = name.to_owned();
        self.change(at, Change::Unlinked { name, file });
        Ok(())
    }

    fn change(&mut self, at: u64, change: Change) {
        change.apply(&mut self.seen);
        self.pending.push((at, change));
    }

    pub(super) fn sync(&mut self) {
        self.pending.clear();
        self.durable.clone_from(&self.seen);
    }

    /// Files that have a name, or had one that a power cut may bring back.
    pub(super) fn files(&self) -> BTreeSet<FileId> {
        let pending = self.pending.iter().map(|(_, change)| change.file());
        let named = self.seen.values().chain(self.durable.values()).copied();
        named.chain(pending).collect()
    }

    /// Files that have a name now.
    pub(super) fn named(&self) -> BTreeSet<FileId> {
        self.seen.values().copied().collect()
    }

    /// What is there after a power cut.
    pub(super) fn after_power_cut(&self, weather: &mut Weather) -> Self {
        let mut left = self.durable.clone();
        let (mut lost_names, mut lost_files) = (BTreeSet::new(), BTreeSet::new());
        for (at, change) in &self.pending {
            let held_up = lost_files.contains(&change.file())
                || change.names().any(|name| lost_names.contains(name));
            if !held_up && weather.keeps(*at) {
                change.apply(&mut left);
            } else {
                lost_files.insert(change.file());
                lost_names.extend(change.names());
            }
        }
        Self {
            seen: left.clone(),
            durable: left,
            pending: Vec::new(),
        }
    }
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, FileId>) {
        match self {
            Self::Created { name, file } => {
                names.insert(name.clone(), *file);
            }
            Self::Renamed { from, to, file } => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
            Self::Unlinked { name, .. } => {
                names.remove(name);
            }
        }
    }

    fn file(&self) -> FileId {
        match self {
            Self::Created { file, .. }
            | Self::Renamed { file, .. }
            | Self::Unlinked { file, .. } => *file,
        }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let (first, second) = match self {
            Self::Created { name, .. } | Self::Unlinked { name, .. } => (name, None),
            Self::Renamed { from, to, .. } => (from, Some(to)),
        };
        std::iter::once(first).chain(second).map(String::as_str)
    }
}
