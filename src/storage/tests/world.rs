//! A model of what the storage must hold, and a workload that fills both.
//!
//! Every flush writes its own number into the broker's row and into two rows of each topic that it
//! touches. So whatever is found on disk says which flush it is of, and a mixture is noticed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use logdrive_protocol::TopicId;
use logdrive_protocol::batch::{BatchBuilder, Head, NewRecord, Origin, Place, next_digest, place};
use redb::WriteTransaction;

use crate::storage::disk::{Disk, SimDisk};
use crate::storage::*;

pub(super) const BROKER: TopicId = TopicId(0);

/// Small enough that a short workload rotates several times and splits batches.
pub(super) fn tiny() -> Options {
    Options {
        salt: 1,
        segment_bytes: 24 << 10,
        chunk_bytes: 3 << 10,
        flush_bytes: 64 << 10,
        journal_bytes: 48 << 10,
        journal_flush_bytes: 5 << 10,
        active_cache_bytes: 256 << 10,
        sealed_cache_bytes: 64 << 10,
        sealed_handles: 2,
        carry_bytes: 8 << 10,
        low_space_bytes: 0,
        ballast_bytes: 0,
        dead_bytes: u64::MAX,
        ..Options::default()
    }
}

/// The same, where little that is dead is reason enough to merge, or to seal a segment.
pub(super) fn merging() -> Options {
    Options {
        dead_bytes: 6 << 10,
        expired_wait: Duration::ZERO,
        merge_step_bytes: 5 << 10,
        ..tiny()
    }
}

/// The same without a journal: every flush is a transaction of the segment, with chunks of its own.
pub(super) fn saved_at_once() -> Options {
    Options {
        journal_bytes: 0,
        ..tiny()
    }
}

/// What the disk holds after some flush.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) rows: BTreeMap<TopicId, BTreeMap<Vec<u8>, Vec<u8>>>,
    pub(super) logs: BTreeMap<TopicId, Log>,
}

/// The batches of a topic, with what a topic keeps about its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Log {
    /// The first offset that is kept.
    pub(super) start: u64,
    /// Those that hold something at or after it.
    pub(super) batches: Vec<Bytes>,
    pub(super) next: u64,
    pub(super) totals: Totals,
    pub(super) digest: u64,
}

impl Log {
    /// Lets go what lies before an offset.
    pub(super) fn trim(&mut self, before: u64) -> JobKind {
        self.start = before;
        let is_kept = |batch: &Bytes| Head::parse(batch).unwrap().end_offset() > before;
        self.batches.retain(is_kept);
        let end = self.next;
        JobKind::Trim { before, end }
    }
}

/// Makes a batch as its topic would, and puts it behind the others.
pub(super) fn append(log: &mut Log, topic: TopicId, values: &[Vec<u8>], time: u64) -> Appended {
    let mut builder = BatchBuilder::default();
    for value in values {
        builder.push(&NewRecord {
            timestamp: time,
            value,
            ..NewRecord::default()
        });
    }
    let mut bytes = builder.finish(Origin::default());
    let base_offset = log.next;
    place(
        &mut bytes,
        Place {
            topic,
            base_offset,
            append_time: time,
            leader_epoch: 0,
        },
    );
    let head = Head::parse(&bytes).unwrap();
    let digest = next_digest(log.digest, &head);
    let appended = Appended {
        bytes: bytes.freeze(),
        totals: log.totals,
        digest,
    };
    log.batches.push(appended.bytes.clone());
    log.next = head.end_offset();
    log.totals.records += u64::from(head.count);
    log.totals.bytes += u64::from(head.content_bytes);
    log.digest = digest;
    appended
}

pub(super) fn row_key(topic: TopicId, kind: u8) -> Vec<u8> {
    let mut key = topic.0.to_be_bytes().to_vec();
    key.push(kind);
    key
}

/// The topics' side: what was staged, what was announced.
#[derive(Debug)]
pub(super) struct World {
    rng: Rng,
    pub(super) generation: u64,
    /// What is held after each flush that may be on disk; the first one is known to be.
    pub(super) history: BTreeMap<u64, Held>,
    sender: Sender<(TopicId, Notice)>,
    notices: Receiver<(TopicId, Notice)>,
    next_topic: u64,
    clock: u64,
    /// Whether topics are trimmed.
    trims: bool,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let (sender, notices) = mpsc::channel();
        Self {
            rng: Rng::with_seed(seed),
            generation: 1,
            history: BTreeMap::from([(0, Held::default())]),
            sender,
            notices,
            next_topic: 1,
            clock: 1_000_000,
            trims: false,
        }
    }

    /// One whose topics are trimmed now and then.
    pub(super) fn trimming(seed: u64) -> Self {
        Self {
            trims: true,
            ..Self::new(seed)
        }
    }

    pub(super) fn announce(&self, topic: TopicId) -> Announce {
        let sender = self.sender.clone();
        Announce::new(move |notice| sender.send((topic, notice)).unwrap())
    }

    /// The last flush that was staged, and what it would hold.
    fn newest(&self) -> (u64, Held) {
        let (flush, held) = self.history.last_key_value().unwrap();
        (*flush, held.clone())
    }

    pub(super) fn held(&self) -> &Held {
        self.history.first_key_value().unwrap().1
    }

    /// Stages a flush of several topics: new ones, known ones, trims, now and then the end of one.
    pub(super) fn stage(&mut self, writer: &mut Writer) -> Vec<Job> {
        let (flush, mut held) = self.newest();
        let flush = flush + 1;
        let mut jobs = vec![self.job(BROKER, flush, &mut held)];
        let mut living: Vec<TopicId> = held.logs.keys().copied().collect();
        if living.len() < 3 || self.rng.u8(..8) == 0 {
            let topic = TopicId(self.next_topic);
            self.next_topic += 1;
            writer.attach(topic, self.announce(topic));
            living.push(topic);
        }
        self.rng.shuffle(&mut living);
        let touched = self.rng.usize(1..=living.len());
        for &topic in &living[..touched] {
            for _ in 0..self.rng.usize(1..3) {
                let mut job = self.job(topic, flush, &mut held);
                let log = held.logs.entry(topic).or_default();
                for _ in 0..self.rng.usize(0..4) {
                    self.clock += 10;
                    let large = self.rng.u8(..10) == 0;
                    let bytes = if large { 4_000..9_000 } else { 10..600 };
                    let values: Vec<Vec<u8>> = (0..self.rng.usize(1..4))
                        .map(|_| {
                            let bytes = self.rng.usize(bytes.clone());
                            (0..bytes).map(|_| self.rng.u8(..)).collect()
                        })
                        .collect();
                    job.batches.push(append(log, topic, &values, self.clock));
                }
                if self.trims && self.rng.u8(..5) == 0 {
                    // Up to the end now and then.
                    let before = self.rng.u64(log.start..=log.next + 4).min(log.next);
                    job.kind = log.trim(before);
                }
                jobs.push(job);
            }
        }
        if let Some(&doomed) = living[touched..].first()
            && self.rng.u8(..6) == 0
        {
            let mut job = self.job(doomed, flush, &mut held);
            job.kind = JobKind::Delete;
            job.rows.clear();
            held.rows.remove(&doomed);
            held.logs.remove(&doomed);
            jobs.push(job);
        }
        self.history.insert(flush, held);
        jobs
    }

    /// A job that writes the flush's number twice, and drops the third row of before.
    fn job(&mut self, topic: TopicId, flush: u64, held: &mut Held) -> Job {
        let rows = held.rows.entry(topic).or_default();
        let mut written = Vec::new();
        for (kind, keep) in [(1, true), (2, true), (3, self.rng.bool())] {
            let key = row_key(topic, kind);
            let padding = vec![kind; self.rng.usize(..200)];
            let value = keep.then(|| [&flush.to_be_bytes()[..], &padding].concat());
            match &value {
                Some(value) => drop(rows.insert(key.clone(), value.clone())),
                None => drop(rows.remove(&key)),
            }
            written.push(Row { key, value });
        }
        Job {
            topic,
            generation: self.generation,
            ticket: flush,
            batches: Vec::new(),
            rows: written,
            announce: self.announce(topic),
            kind: JobKind::Change,
        }
    }

    /// One flush and what is said about it; a failure is recovered from, if the disk allows.
    pub(super) fn flush(&mut self, writer: &mut Writer) -> Result<(), OpenError> {
        let jobs = self.stage(writer);
        writer.commit(jobs);
        self.hear(writer)
    }

    /// Takes in that a commit failed, and leaves it at that.
    pub(super) fn hear_only(&mut self) {
        let mut reloaded = BTreeMap::new();
        self.take_notices(&mut reloaded);
        assert!(reloaded.is_empty());
    }

    /// Takes in what was announced.
    pub(super) fn hear(&mut self, writer: &mut Writer) -> Result<(), OpenError> {
        self.hear_only();
        let mut reloaded = BTreeMap::new();
        if writer.has_failed() {
            let before = self.generation;
            let recovered = writer.recover();
            self.take_notices(&mut reloaded);
            recovered?;
            assert_eq!(self.generation, before);
            self.settle(&reloaded);
        }
        Ok(())
    }

    fn take_notices(&mut self, reloaded: &mut BTreeMap<TopicId, Option<TopicRows>>) {
        for (topic, notice) in self.notices.try_iter() {
            match notice {
                Notice::Committed { generation, ticket } => {
                    assert_eq!(
                        generation, self.generation,
                        "committed in a past generation"
                    );
                    assert!(
                        self.history.contains_key(&ticket),
                        "committed, never staged"
                    );
                    self.history = self.history.split_off(&ticket);
                }
                Notice::Failed { generation } => {
                    assert!(generation >= self.generation);
                    self.generation = generation;
                }
                Notice::Reloaded { generation, rows } => {
                    assert_eq!(generation, self.generation);
                    assert!(reloaded.insert(topic, rows).is_none(), "reloaded twice");
                }
            }
        }
    }

    /// Believes what was reloaded, once it is known to be one of the flushes that may be there.
    fn settle(&mut self, reloaded: &BTreeMap<TopicId, Option<TopicRows>>) {
        let found = reloaded.get(&BROKER).unwrap().clone().unwrap();
        let flush = Self::flush_of(&found);
        let held = self.history.remove(&flush).unwrap_or_else(|| {
            panic!(
                "flush {flush} was reloaded, one of {:?} must be",
                self.history.keys()
            )
        });
        for (topic, rows) in reloaded {
            let expected = held.rows.get(topic).filter(|rows| !rows.is_empty());
            let rows = rows.clone().filter(|rows| !rows.is_empty());
            assert_eq!(
                rows.map(BTreeMap::from_iter).as_ref(),
                expected,
                "topic {topic}"
            );
        }
        self.history = BTreeMap::from([(flush, held)]);
    }

    /// The flush that all rows are of.
    pub(super) fn flush_in(rows: &Rows) -> u64 {
        rows.get(&BROKER).map_or(0, Self::flush_of)
    }

    /// The flush that the broker's rows are of; both must say the same.
    fn flush_of(rows: &TopicRows) -> u64 {
        let number = |kind| {
            let row = rows.iter().find(|(key, _)| *key == row_key(BROKER, kind));
            row.map_or(0, |(_, value)| {
                u64::from_be_bytes(value[..8].try_into().unwrap())
            })
        };
        assert_eq!(number(1), number(2), "a mixture of flushes");
        number(1)
    }

    /// Opens the store anew and compares everything that it holds with what it may hold.
    pub(super) fn reopen(&mut self, disk: &SimDisk, options: &Options) -> Writer {
        let (mut writer, recovered) = open(disk, options).expect("it always opens");
        self.believe(&mut writer, recovered);
        writer
    }

    pub(super) fn believe(&mut self, writer: &mut Writer, recovered: Recovered) {
        self.generation = recovered.generation;
        let rows = recovered.topics.get(&BROKER).cloned().unwrap_or_default();
        let flush = Self::flush_of(&rows);
        let held = self.history.remove(&flush).unwrap_or_else(|| {
            panic!(
                "flush {flush} was found, one of {:?} must be",
                self.history.keys()
            )
        });
        let rows: BTreeMap<_, _> = recovered
            .topics
            .into_iter()
            .map(|(topic, rows)| (topic, BTreeMap::from_iter(rows)))
            .collect();
        assert_eq!(rows, held.rows);
        self.history = BTreeMap::from([(flush, held)]);
        for topic in self.held().logs.keys().chain([&BROKER]) {
            writer.attach(*topic, self.announce(*topic));
        }
        self.check_records(&writer.reader());
    }

    /// See [`Held::check_records`].
    pub(super) fn check_records(&self, reader: &Reader) {
        self.held().check_records(reader);
    }
}

impl Held {
    /// Reads every record of every topic and compares it byte for byte.
    pub(super) fn check_records(&self, reader: &Reader) {
        for (topic, log) in &self.logs {
            let read = read_from(reader, *topic, log.start, log.next).unwrap();
            assert_eq!(read, log.batches, "topic {topic}");
        }
    }
}

pub(super) fn open(disk: &SimDisk, options: &Options) -> Result<(Writer, Recovered), OpenError> {
    Writer::open(Arc::new(disk.clone()), options.clone())
}

/// Changes a segment that nobody has open, behind the storage's back.
pub(super) fn change_segment(disk: &SimDisk, name: &str, change: impl FnOnce(&WriteTransaction)) {
    let backend = backend::Backend::new(disk.open(name).unwrap());
    let db = redb::Builder::new().create_with_backend(backend).unwrap();
    let txn = db.begin_write().unwrap();
    change(&txn);
    txn.commit().unwrap();
}

/// All batches of a topic, in several reads.
pub(super) fn read_all(reader: &Reader, topic: TopicId, end: u64) -> Result<Vec<Bytes>, ReadError> {
    read_from(reader, topic, 0, end)
}

/// The batches that hold something of a range, in several reads.
pub(super) fn read_from(
    reader: &Reader,
    topic: TopicId,
    mut next: u64,
    end: u64,
) -> Result<Vec<Bytes>, ReadError> {
    let mut all = Vec::new();
    while next < end {
        let batches = reader.read(topic, next, end, 10_000)?.batches;
        next = Head::parse(batches.last().expect("a read gives at least one batch"))
            .expect("a batch has a head")
            .end_offset();
        all.extend(batches);
    }
    Ok(all)
}
