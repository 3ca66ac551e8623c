//! The broker's store without its shell: topics over the storage.
//!
//! Owns what the topics' actors own beside the logic: which ticket is durable, and what becomes of
//! what was staged when a write fails. It takes every start and every recovery to the
//! [`judge`](super::judge). Its neighbours: the [`workload`](super::workload) stages through it, the
//! [`timeline`](super::timeline) is told when.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use fastrand::Rng;
use logdrive_protocol::TopicId;

use super::engine::Engine;
use super::held::{Held, Picture, RowMap, Sent};
use super::judge::{self, Found};
use super::timeline::Timeline;
use crate::storage::disk::{Disk, SimDisk};
use crate::storage::{Announce, Appended, Job, JobKind, Notice, Options, Reader, Recovered};
use crate::topic::delayed::delay_log;
use crate::topic::state::{Change, State};

/// So often a recovery is tried: at most two faults are planned.
const ATTEMPTS: usize = 4;

/// How long threads may take for a flush on a disk in memory, at the worst.
const PATIENCE: Duration = Duration::from_mins(2);

/// A notice, when it came in changes of the disk, and which segment was active.
type Heard = (u64, TopicId, Notice);

/// How often what was done.
pub(super) type Counts = BTreeMap<&'static str, u64>;

/// Topics and the writer below them.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) disk: SimDisk,
    engine: Engine,
    generation: u64,
    pub(super) topics: BTreeMap<TopicId, State>,
    pub(super) timeline: Timeline,
    /// What the disk holds when everything staged is there.
    pub(super) held: Held,
    jobs: Vec<Job>,
    /// Of the flush that is written: the highest ticket of each topic.
    staged: BTreeMap<TopicId, u64>,
    /// Batches whose producers were never answered: they send them again.
    pub(super) unknown: Vec<Sent>,
    sender: Sender<Heard>,
    notices: Receiver<Heard>,
    pub(super) random: Rng,
    pub(super) now: u64,
    pub(super) next_id: u64,
    broker_ticket: u64,
    /// Failures of the disk that were looked at.
    failures_seen: usize,
    /// The active segment, as it was seen last.
    active: u64,
    /// How often what was done.
    pub(super) counts: Counts,
}

impl Store {
    /// Opens the store on a disk that may hold one of several flushes; an error says what is wrong
    /// with what was found.
    pub(super) fn open(
        disk: &SimDisk,
        options: &Options,
        may_be: &[Arc<Held>],
        random: Rng,
    ) -> Result<Self, String> {
        Self::over(Engine::inline(disk, options)?, disk, may_be, random)
    }

    /// Takes up what a storage was opened with.
    pub(super) fn over(
        (engine, recovered): (Engine, Recovered),
        disk: &SimDisk,
        may_be: &[Arc<Held>],
        random: Rng,
    ) -> Result<Self, String> {
        if engine.has_failed() {
            return Err("it has failed already".to_owned());
        }
        let rows = recovered.topics.into_iter();
        let rows = rows.map(|(topic, rows)| (topic, RowMap::from_iter(rows)));
        let newest = may_be.last().map_or(0, |held| held.number);
        // Later than anything that was ever noted.
        let now = 1_000_000 + newest * 2_000_000;
        let Found { held, topics } = judge::judge(&rows.collect(), &engine.reader(), may_be, now)?;
        let (sender, notices) = mpsc::channel();
        let mut store = Self {
            disk: disk.clone(),
            engine,
            generation: recovered.generation,
            topics,
            timeline: Timeline::new(may_be.to_vec()),
            held: (*held).clone(),
            jobs: Vec::new(),
            staged: BTreeMap::new(),
            unknown: lost(may_be, &held),
            sender,
            notices,
            random,
            now,
            // Ids are reserved before they are used.
            next_id: 1 + newest * 100,
            broker_ticket: 0,
            failures_seen: disk.failed().len(),
            active: 0,
            counts: Counts::new(),
        };
        store.held.number = newest;
        store.timeline.find(disk.changes(), held.number);
        let topics: Vec<_> = store.topics.keys().copied().collect();
        for topic in topics.into_iter().chain([TopicId::NONE]) {
            store.attach(topic);
        }
        Ok(store)
    }

    pub(super) fn reader(&self) -> Reader {
        self.engine.reader()
    }

    /// Says what is staged is durable before it is: a fault that must be found.
    pub(super) fn answer_early(&mut self) {
        self.engine.announce_early();
    }

    fn announce(&self, topic: TopicId) -> Announce {
        let (sender, disk) = (self.sender.clone(), self.disk.clone());
        // Nobody listens any more when the store is gone.
        Announce::new(move |notice| drop(sender.send((disk.changes(), topic, notice))))
    }

    pub(super) fn attach(&mut self, topic: TopicId) {
        let announce = self.announce(topic);
        self.engine.attach(topic, announce);
    }

    /// Hands over a change of a topic, to be in the next flush.
    pub(super) fn submit(&mut self, topic: TopicId, change: Change, kind: JobKind) {
        let job = Job {
            topic,
            generation: self.generation,
            ticket: change.ticket,
            batches: change.batches,
            rows: change.rows,
            announce: self.announce(topic),
            kind,
        };
        self.held.take(&job);
        self.staged.insert(topic, job.ticket);
        self.jobs.push(job);
    }

    /// Hands over a change of a topic's delay log; nobody waits for its notice.
    pub(super) fn submit_delay_log(
        &mut self,
        topic: TopicId,
        ticket: u64,
        batches: Vec<Appended>,
        kind: JobKind,
    ) {
        let job = Job {
            topic: delay_log(topic),
            generation: self.generation,
            ticket,
            batches,
            rows: Vec::new(),
            announce: Announce::new(|_| {}),
            kind,
        };
        self.held.take(&job);
        self.jobs.push(job);
    }

    pub(super) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Counts what the storage has done.
    fn count_segments(&mut self) {
        if let Some(number) = self.engine.active().filter(|it| *it != self.active) {
            self.active = number;
            self.count("segment born");
            let names = self.disk.list().unwrap_or_default();
            if names.iter().any(|name| is_merged(name)) {
                self.count("merged segment seen");
            }
        }
    }

    /// Reserves ids, as the broker does before it hands them out.
    pub(super) fn reserve_ids(&mut self) {
        self.broker_ticket += 1;
        let change = Change {
            ticket: self.broker_ticket,
            batches: Vec::new(),
            rows: vec![crate::topic::rows::next_id(self.next_id)],
        };
        self.submit(TopicId::NONE, change, JobKind::Change);
    }

    /// Writes one flush of all that was submitted, and hears what became of it.
    pub(super) fn commit(&mut self) -> Result<(), String> {
        let jobs = std::mem::take(&mut self.jobs);
        if !jobs.is_empty() {
            self.held.number += 1;
            for (&topic, state) in &self.topics {
                let known = self.held.known(topic);
                known.picture = Picture::of(state, known, self.now);
            }
            let held = Arc::new(self.held.clone());
            self.timeline.stage(self.disk.changes(), held);
        }
        self.engine.commit(jobs);
        let committed = self.hear()?;
        self.check_failures(&committed)?;
        let staged = std::mem::take(&mut self.staged);
        if self.engine.has_failed() {
            self.count("commit failed");
            return self.recover();
        }
        self.count_segments();
        match staged.keys().find(|topic| !committed.contains_key(topic)) {
            Some(topic) => Err(format!("topic {topic} was told nothing of its change")),
            None => Ok(()),
        }
    }

    /// Takes in what was announced: which topics heard of a commit, and when.
    fn hear(&mut self) -> Result<BTreeMap<TopicId, u64>, String> {
        let mut committed = BTreeMap::new();
        loop {
            let is_awaited = self.engine.has_threads() && committed.len() < self.staged.len();
            let next = if is_awaited {
                let next = self.notices.recv_timeout(PATIENCE);
                Some(next.map_err(|_| "nothing was said of a flush")?)
            } else {
                self.notices.try_recv().ok()
            };
            let Some((at, topic, notice)) = next else {
                return Ok(committed);
            };
            match notice {
                Notice::Committed { generation, ticket } => {
                    if generation != self.generation || self.staged.get(&topic) != Some(&ticket) {
                        return Err(format!("ticket {ticket} of topic {topic} was committed"));
                    }
                    if let Some(state) = self.topics.get_mut(&topic) {
                        state.commit(ticket);
                    }
                    committed.insert(topic, at);
                    self.timeline.commit(at, self.held.number);
                }
                Notice::Failed { generation } => self.generation = generation,
                Notice::Reloaded { .. } => return Err("reloaded before it recovered".to_owned()),
            }
        }
    }

    /// No acknowledgement after a failed call on what the flush was written to.
    fn check_failures(&mut self, committed: &BTreeMap<TopicId, u64>) -> Result<(), String> {
        let failed = self.disk.failed();
        let new = failed.iter().skip(self.failures_seen);
        let active = self.engine.active();
        for (change, call, name) in new {
            let number = name.split('.').next().and_then(|it| it.parse::<u64>().ok());
            let is_its_own = name == "journal" || (number.is_some() && number == active);
            if is_its_own && committed.values().any(|at| at >= change) {
                return Err(format!("acknowledged after {call:?} of {name} had failed"));
            }
        }
        self.failures_seen = failed.len();
        Ok(())
    }

    /// What the broker does after a failed commit: nobody is answered, and topics go on from what
    /// was found.
    fn recover(&mut self) -> Result<(), String> {
        let mut outcome = Ok(());
        for _ in 0..ATTEMPTS {
            outcome = self.engine.recover();
            if outcome.is_ok() {
                break;
            }
        }
        outcome.map_err(|error| format!("it never recovers: {error}"))?;
        self.failures_seen = self.disk.failed().len();
        let mut rows = BTreeMap::new();
        for (_, topic, notice) in self.notices.try_iter() {
            match notice {
                Notice::Reloaded {
                    generation,
                    rows: found,
                } if generation == self.generation => {
                    let found = RowMap::from_iter(found.unwrap_or_default());
                    if !found.is_empty() {
                        rows.insert(topic, found);
                    }
                }
                other => return Err(format!("topic {topic} was told {other:?}")),
            }
        }
        let may_be = self.timeline.at_end();
        let found = judge::judge(&rows, &self.engine.reader(), &may_be, self.now)?;
        self.unknown = lost(&may_be, &found.held);
        self.timeline.find(self.disk.changes(), found.held.number);
        let before = std::mem::take(&mut self.topics);
        for (topic, state) in found.topics {
            let state = match before.get(&topic) {
                Some(before) => state.succeeding(before),
                None => state,
            };
            self.topics.insert(topic, state);
        }
        let number = self.held.number;
        self.held = (*found.held).clone();
        self.held.number = number;
        Ok(())
    }

    /// Compares everything with what must be there now.
    pub(super) fn check(&self) -> Result<(), String> {
        let may_be = self.timeline.at_end();
        let [held] = &may_be[..] else {
            return Err(format!("{} flushes are open", may_be.len()));
        };
        judge::check_once(held)?;
        judge::judge(&held.rows, &self.engine.reader(), &may_be, self.now).map(drop)
    }

    /// Ends without a word, as a process does whose disk is gone.
    pub(super) fn abandon(self) -> Timeline {
        self.timeline
    }

    /// Ends gracefully.
    pub(super) fn close(self) -> (Timeline, Counts) {
        self.engine.close();
        (self.timeline, self.counts)
    }
}

/// The number of the first segment that was merged: far above all others.
const FIRST_MERGED: u64 = 10_000_000_000_000_000_000;

fn is_merged(name: &str) -> bool {
    let number = name.strip_suffix(".redb").map(str::parse::<u64>);
    matches!(number, Some(Ok(number)) if number > FIRST_MERGED)
}

/// What producers were never answered, if this flush was found.
fn lost(may_be: &[Arc<Held>], found: &Held) -> Vec<Sent> {
    let later = may_be.iter().filter(|held| held.number > found.number);
    let mut seen = BTreeSet::new();
    let sends = later.flat_map(|held| held.sends());
    let lost = sends.filter(|sent| !found.has(sent));
    let lost = lost.filter(|sent| seen.insert(sent.batch.clone()));
    lost.cloned().collect()
}
