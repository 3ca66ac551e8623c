//! Moments of a disk: one run gives the images of a cut at any of them.
//!
//! Owns what a moment is, and the recording of them. Moments share whatever has not changed between
//! them, so that thousands can be kept. Its neighbours: [`SimDisk`] makes one of each change while it
//! records, [`Weather`] says what a cut loses.

use std::collections::BTreeMap;
use std::sync::Arc;

use fastrand::Rng;

use super::SimDisk;
use super::content::Content;
use super::names::{FileId, Names};
use super::weather::Weather;

/// What a disk holds; copies share what has not changed.
#[derive(Debug, Clone, Default)]
pub(super) struct Moment {
    pub(super) names: Arc<Names>,
    pub(super) files: BTreeMap<FileId, Arc<Content>>,
    pub(super) next_file: FileId,
}

/// The moments before each change since a recording began.
#[derive(Debug)]
pub(super) struct Recording {
    /// The number of changes at its beginning.
    first: u64,
    moments: Vec<Moment>,
}

impl Moment {
    /// What a power cut leaves of it; `order` is the change after its last one.
    pub(super) fn after_power_cut(&self, random: Rng, order: u64) -> (Self, Rng) {
        let files = self.files.values();
        let pending = files.filter_map(|file| file.first_pending());
        let first = pending.chain(self.names.first_pending()).min();
        let mut weather = Weather::new(random, first.unwrap_or(order)..order);
        let names = self.names.after_power_cut(&mut weather);
        let kept = names.named();
        let files = self.files.iter().filter(|(id, _)| kept.contains(id));
        let files = files.map(|(id, file)| (*id, Arc::new(file.after_power_cut(&mut weather))));
        let left = Self {
            files: files.collect(),
            names: Arc::new(names),
            next_file: self.next_file,
        };
        (left, weather.random)
    }
}

impl Recording {
    pub(super) fn push(&mut self, moment: Moment) {
        self.moments.push(moment);
    }
}

impl SimDisk {
    /// Keeps every moment from here on, for [`SimDisk::image`].
    pub fn record(&self) {
        let mut state = self.state();
        state.recording = Some(Recording {
            first: state.changes,
            moments: Vec::new(),
        });
    }

    /// The disk as it is found after a power cut that came when `changes` changes had been made;
    /// `None` if that was before the recording or is still to come.
    ///
    /// This disk goes on. Equal seeds give equal images.
    pub fn image(&self, changes: u64, seed: u64) -> Option<Self> {
        let (moment, order, capacity) = self.moment(changes)?;
        let (left, random) = moment.after_power_cut(Rng::with_seed(seed), order + 1);
        Some(Self::holding(left, random, order, capacity))
    }

    /// The disk as the next process finds it if the one that uses it had ended when `changes`
    /// changes had been made; `None` as for [`SimDisk::image`].
    pub fn killed(&self, changes: u64, seed: u64) -> Option<Self> {
        let (moment, order, capacity) = self.moment(changes)?;
        Some(Self::holding(moment, Rng::with_seed(seed), order, capacity))
    }

    /// What was there at some moment, and the number of the change before it.
    fn moment(&self, changes: u64) -> Option<(Moment, u64, Option<u64>)> {
        let state = self.state();
        let recording = state.recording.as_ref()?;
        let number = usize::try_from(changes.checked_sub(recording.first)?).ok()?;
        let moment = match recording.moments.get(number) {
            Some(moment) => moment,
            None if changes == state.changes => &state.now,
            None => return None,
        };
        let order = state.order - (state.changes - changes);
        Some((moment.clone(), order, state.capacity))
    }
}
