//! How a writer begins, at a start and after a failed commit: in a new segment, with what it found.
//!
//! Owns the order of the steps: the journal is there before a segment says that it goes on in it,
//! readers have a view before anything is written, and files go when nothing needs them. Its
//! neighbour: [recovery](super::super::recovery) finds and carries over.

use std::sync::Arc;

use super::{Active, Writer};
use crate::storage::Rows;
use crate::storage::error::OpenError;
use crate::storage::journal::Journal;
use crate::storage::keeper::{BALLAST, Chore};
use crate::storage::layout;
use crate::storage::recovery::{self, Born, Found};
use crate::storage::segment::mixed;

impl Writer {
    /// Tries once to go on after a failed commit; `Ok` also when there is nothing to recover from.
    ///
    /// # Errors
    ///
    /// The reason why it did not succeed; reads go on, and it can be tried again.
    pub fn recover(&mut self) -> Result<(), OpenError> {
        if self.active.is_some() {
            return Ok(());
        }
        let topics = self.find_and_carry()?;
        self.health.set_failed(false);
        let generation = self.generation;
        tracing::info!(generation, segment = self.floor, "writing again");
        self.audience.reloaded(topics, generation);
        Ok(())
    }

    /// As [`Writer::find_and_carry`], but a disk without room for a new segment does not stop the
    /// start: the ballast is given up for it, and if that is not enough the store begins as after a
    /// failed commit, so that reads go on until there is room.
    pub(super) fn first_carry(&mut self) -> Result<Rows, OpenError> {
        let full = match self.find_and_carry() {
            Err(error) if error.is_full() => error,
            other => return other,
        };
        // One that is not there gives no room: the second attempt says the same as the first.
        let _ = self.disk.unlink(BALLAST);
        match self.find_and_carry() {
            Err(error) if error.is_full() => {}
            other => return other,
        }
        let Some(found) = &self.found else {
            return Err(full);
        };
        tracing::error!(error = %full, "no room to write; reading goes on until there is");
        self.health.set_failed(true);
        recovery::rows(&found.segment)
    }

    /// Goes on in a new segment with what the directory holds.
    fn find_and_carry(&mut self) -> Result<Rows, OpenError> {
        if self.found.is_none() {
            self.found = recovery::find(&*self.disk, &self.options, &mut self.floor)?;
            if let Some(found) = &self.found {
                if found.is_damaged {
                    let segment = found.segment.number;
                    tracing::error!(
                        segment,
                        "damaged: what of its records cannot be read is refused by name, the rest \
                         is served; stop the broker and run logdrive verify to see what it is"
                    );
                }
                // Readers go on while nothing can be written.
                self.view.send_replace(Some(found.segment.clone()));
                self.reader.unsaved.clear();
            }
        }
        // A process that was killed may have left names that no disk has yet. What is made from here
        // on needs the files behind them, so it must not outlive them.
        self.disk
            .sync_dir()
            .map_err(|source| OpenError::disk("syncing it", source))?;
        // A handle that has seen an error fails ever after, so the next attempt opens another.
        let found = self.found.take();
        self.open_journal(found.as_ref());
        let born = recovery::carry_over(
            &*self.disk,
            &self.options,
            found.as_ref(),
            self.journal.as_ref().map(Journal::shape),
            &mut self.floor,
            self.hands.closer(),
        );
        let born = match born {
            Err(error) if error.is_full() => {
                // What was begun would take the room that the next attempt needs.
                let _ = self.disk.unlink(&layout::unborn_name(self.floor));
                self.found = found;
                return Err(error);
            }
            other => other?,
        };
        let dead = recovery::name(&*self.disk, &born)?;
        let Born {
            segment,
            tally,
            identity,
            topics,
            named,
        } = born;
        let segment = Arc::new(segment);
        self.identity = identity;
        if let Some(found) = found.filter(|found| named.contains(&found.segment.number)) {
            self.hands.give(Chore::Shelve(found.segment));
        }
        self.view.send_replace(Some(segment.clone()));
        let (number, birth) = (segment.number, segment.birth);
        self.hands.give(Chore::Mark { number, birth });
        if !dead.is_empty() {
            self.hands.give(Chore::Unlink(dead));
        }
        self.active = Some(Active { segment, tally });
        Ok(topics)
    }

    /// Before anything needs it: a segment says in its first transaction whether there is one.
    fn open_journal(&mut self, found: Option<&Found>) {
        let bytes = self.options.journal_bytes;
        if bytes == 0 || self.journal.is_some() {
            return;
        }
        // One that is made anew keeps the mark: what was found may be all that is known of it.
        let known = found.map_or(0, |found| found.identity.journal_id);
        let id = if known == 0 {
            mixed(self.options.salt)
        } else {
            known
        };
        match Journal::open(&*self.disk, bytes, id) {
            Ok(journal) => self.journal = Some(journal),
            // Small flushes take longer, and nothing else.
            Err(error) => tracing::warn!(%error, "there is no journal: small flushes take longer"),
        }
    }
}
