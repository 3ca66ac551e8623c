//! What a client notes down while it runs: names once, everything else in 16-byte rows.
//!
//! Owns the notes of one client and their merging; never judges them (that is
//! [`topic`](super::topic)).
//!
//! ```text
//!   Recorder ─ topic ─┬─ producer ── sends, acknowledgements, other outcomes
//!                     ├─ consumer ─┬ answers (worker, number, first read)
//!                     │            ├ reads   (offset, fingerprint)
//!                     │            ├ leases  (see [`leases`](super::leases))
//!                     │            └ gaps that it was told
//!                     ├─ fetches     the same, for reads without a consumer
//!                     ├─ final read
//!                     └─ sizes
//! ```

use std::collections::BTreeMap;

use super::leases::{DeadLetter, Lease, Leases, Lent, Settled, Told, Verdict};

/// Where a record comes from; names one record.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The topic that it was sent to.
    pub topic: &'a str,
    /// The producer's name, unique in the whole history.
    pub producer: &'a str,
    /// The producer's own number of the record: increasing within a topic, never used twice.
    pub sequence: u64,
}

/// The answer to a fetch or a consume; names one answer.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// The topic that was read.
    pub topic: &'a str,
    /// The consumer that the records were taken for; `None` for a fetch.
    pub consumer: Option<&'a str>,
    /// Who asked: unique among the consumer's workers or the topic's fetchers. Takers that have no
    /// worker number on the wire still need different ones here.
    pub worker: u64,
    /// Counts the worker's answers, upwards.
    pub number: u64,
}

/// One record as somebody read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Read {
    /// The offset under which it was delivered.
    pub offset: u64,
    /// The [`fingerprint`](super::fingerprint) of what was delivered.
    pub fingerprint: u64,
}

/// The notes of one client; each thread or task owns its own.
///
/// A send is noted by its [`Origin`], and its outcome may be noted by another recorder.
#[derive(Debug, Default)]
pub struct Recorder {
    topics: Named<Notes>,
}

impl Recorder {
    /// Empty notes.
    pub fn new() -> Self {
        Self::default()
    }

    /// The record is sent, or about to be; note it even where sending fails.
    ///
    /// Until an outcome is noted, the record may turn up once or not at all. Noting it again, for
    /// another try, changes nothing.
    pub fn sent(&mut self, origin: Origin<'_>, fingerprint: u64) {
        let sequence = origin.sequence;
        self.producer(origin).sends.push(Send {
            sequence,
            fingerprint,
        });
    }

    /// The record was answered as synced. (An `accepted` answer is an
    /// [unknown outcome](Self::unknown): its offset is provisional.)
    pub fn acknowledged(&mut self, origin: Origin<'_>, offset: u64) {
        let sequence = origin.sequence;
        self.producer(origin)
            .acknowledged
            .push(Acknowledged { sequence, offset });
    }

    /// The record may have been stored, once.
    pub fn unknown(&mut self, origin: Origin<'_>) {
        let sequence = origin.sequence;
        self.producer(origin).unknown.push(sequence);
    }

    /// As [`unknown`](Self::unknown), of a producer without an id that has gone on: what is still on
    /// its way on a lost connection may be stored behind what was sent on the next one, because
    /// nobody sees that it was overtaken.
    pub fn abandoned(&mut self, origin: Origin<'_>) {
        let sequence = origin.sequence;
        self.producer(origin).abandoned.push(sequence);
    }

    /// The producer was told that the record is not stored: a reported loss, or an error of the
    /// class *not done* after which it gave up.
    pub fn reported_lost(&mut self, origin: Origin<'_>) {
        let sequence = origin.sequence;
        self.producer(origin).reported_lost.push(sequence);
    }

    /// A fetch or a consume delivered the record; call it in the order of delivery.
    pub fn delivered(&mut self, answer: Answer<'_>, read: Read) {
        let notes = self.topic(answer.topic);
        let deliveries = match answer.consumer {
            Some(consumer) => &mut notes.consumers.get(consumer).deliveries,
            None => &mut notes.fetches,
        };
        deliveries.push(answer.worker, answer.number, read);
    }

    /// The final read of the topic holds the record.
    pub fn finally_read(&mut self, topic: &str, read: Read) {
        self.topic(topic).last.push(read);
    }

    /// The consumer's size after its last consume, in records.
    pub fn sized(&mut self, topic: &str, consumer: &str, records: u64) {
        let notes = self.topic(topic);
        // A consumer that took nothing has no deliveries, but is checked like any other.
        notes.consumers.get(consumer).sizes.push(records);
    }

    /// A consume lent the record; a consumer lends all its records or none.
    pub fn lent(&mut self, lease: Lease<'_>, lent: Lent) {
        self.leases(lease.topic, lease.consumer).push(lease, lent);
    }

    /// A record of a lease was acked or given back by a request that left at `sent`, or earlier.
    pub fn settled(&mut self, lease: Lease<'_>, offset: u64, sent: u64, verdict: Verdict) {
        let settled = Settled {
            lease: lease.number,
            offset,
            sent,
            verdict,
        };
        let leases = self.leases(lease.topic, lease.consumer);
        leases.settled.push(settled);
    }

    /// A request that left at `sent`, or earlier, let the lease run for `lasts` microseconds more,
    /// no fewer than it had, and was answered.
    pub fn extended(&mut self, lease: Lease<'_>, sent: u64, lasts: u64) {
        let leases = self.leases(lease.topic, lease.consumer);
        leases.extended.push((lease.number, sent + lasts));
    }

    /// From this time on, others may be given what the worker held before: it closed, or its
    /// connection ended so long ago that the broker gives it up.
    pub fn gone(&mut self, topic: &str, consumer: &str, worker: u64, from: u64) {
        self.leases(topic, consumer).gone.push((worker, from));
    }

    /// The record is among the dead letters.
    pub fn given_up(&mut self, letter: DeadLetter<'_>) {
        let leases = self.leases(letter.topic, letter.consumer);
        leases.given_up.push(letter.read);
        leases.letters.push(letter.deliveries);
    }

    /// The consumer was told of a gap.
    pub fn told(&mut self, topic: &str, consumer: &str, gap: Told) {
        self.topic(topic).consumers.get(consumer).gaps.push(gap);
    }

    /// What is before `log_start` was removed, by retention or a purge, when the final read began.
    pub fn removed(&mut self, topic: &str, log_start: u64) {
        let notes = self.topic(topic);
        notes.log_start = notes.log_start.max(log_start);
    }

    pub(super) fn into_topics(self) -> impl Iterator<Item = (String, Notes)> {
        self.topics.into_pairs()
    }

    fn topic(&mut self, name: &str) -> &mut Notes {
        self.topics.get(name)
    }

    fn leases(&mut self, topic: &str, consumer: &str) -> &mut Leases {
        &mut self.topic(topic).consumers.get(consumer).leases
    }

    fn producer(&mut self, origin: Origin<'_>) -> &mut Producer {
        self.topic(origin.topic).producers.get(origin.producer)
    }
}

/// Values by name. A look-up allocates nothing unless the name is new.
#[derive(Debug)]
pub(super) struct Named<T> {
    index: BTreeMap<String, usize>,
    values: Vec<T>,
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self {
            index: BTreeMap::new(),
            values: Vec::new(),
        }
    }
}

impl<T: Default> Named<T> {
    pub(super) fn get(&mut self, name: &str) -> &mut T {
        let at = if let Some(&at) = self.index.get(name) {
            at
        } else {
            let at = self.values.len();
            self.values.push(T::default());
            self.index.insert(name.to_owned(), at);
            at
        };
        &mut self.values[at]
    }

    /// Everything, ascending by name, so that a report does not depend on who recorded first.
    pub(super) fn into_pairs(self) -> impl Iterator<Item = (String, T)> {
        let Self { index, mut values } = self;
        index
            .into_iter()
            .map(move |(name, at)| (name, std::mem::take(&mut values[at])))
    }
}

/// Everything that was noted of one topic.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) producers: Named<Producer>,
    pub(super) consumers: Named<Consumer>,
    pub(super) fetches: Deliveries,
    pub(super) last: Vec<Read>,
    pub(super) log_start: u64,
}

impl Notes {
    /// Adds another client's notes of the same topic.
    pub(super) fn absorb(&mut self, mut other: Self) {
        for (name, producer) in other.producers.into_pairs() {
            self.producers.get(&name).absorb(producer);
        }
        for (name, consumer) in other.consumers.into_pairs() {
            self.consumers.get(&name).absorb(consumer);
        }
        self.fetches.absorb(other.fetches);
        merge(&mut self.last, &mut other.last);
        self.log_start = self.log_start.max(other.log_start);
    }
}

/// What one consumer was given and told.
#[derive(Debug, Default)]
pub(super) struct Consumer {
    pub(super) deliveries: Deliveries,
    pub(super) leases: Leases,
    pub(super) gaps: Vec<Told>,
    pub(super) sizes: Vec<u64>,
}

impl Consumer {
    fn absorb(&mut self, mut other: Self) {
        self.deliveries.absorb(other.deliveries);
        self.leases.absorb(other.leases);
        merge(&mut self.gaps, &mut other.gaps);
        merge(&mut self.sizes, &mut other.sizes);
    }
}

/// What one producer sent to one topic, and what it was told.
#[derive(Debug, Default)]
pub(super) struct Producer {
    pub(super) sends: Vec<Send>,
    pub(super) acknowledged: Vec<Acknowledged>,
    pub(super) unknown: Vec<u64>,
    pub(super) abandoned: Vec<u64>,
    pub(super) reported_lost: Vec<u64>,
}

impl Producer {
    fn absorb(&mut self, mut other: Self) {
        merge(&mut self.sends, &mut other.sends);
        merge(&mut self.acknowledged, &mut other.acknowledged);
        merge(&mut self.unknown, &mut other.unknown);
        merge(&mut self.abandoned, &mut other.abandoned);
        merge(&mut self.reported_lost, &mut other.reported_lost);
    }
}

/// A record as it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Send {
    pub(super) sequence: u64,
    pub(super) fingerprint: u64,
}

/// Where the broker said that a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Acknowledged {
    pub(super) sequence: u64,
    pub(super) offset: u64,
}

/// What one consumer was given for good, or all fetchers of a topic.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    /// Which run of `reads` belongs to which answer, in the order of `reads`.
    heads: Vec<Head>,
    reads: Vec<Read>,
}

/// The beginning of an answer among the reads.
#[derive(Debug, Clone, Copy)]
struct Head {
    worker: u64,
    number: u64,
    start: usize,
}

impl Deliveries {
    /// All reads, answer by answer.
    pub(super) fn reads(&self) -> &[Read] {
        &self.reads
    }

    /// (worker, reads) of each answer: a worker's answers stand together, upwards by number.
    pub(super) fn answers(&self) -> Vec<(u64, &[Read])> {
        let ends = self
            .heads
            .iter()
            .skip(1)
            .map(|head| head.start)
            .chain([self.reads.len()]);
        let mut answers: Vec<_> = self
            .heads
            .iter()
            .zip(ends)
            .map(|(head, end)| (head, head.start..end))
            .collect();
        answers.sort_by_key(|(head, _)| (head.worker, head.number));
        answers
            .into_iter()
            .map(|(head, run)| (head.worker, &self.reads[run]))
            .collect()
    }

    fn push(&mut self, worker: u64, number: u64, read: Read) {
        let goes_on = self
            .heads
            .last()
            .is_some_and(|head| head.worker == worker && head.number == number);
        if !goes_on {
            self.heads.push(Head {
                worker,
                number,
                start: self.reads.len(),
            });
        }
        self.reads.push(read);
    }

    fn absorb(&mut self, mut other: Self) {
        let shift = self.reads.len();
        for head in &mut other.heads {
            head.start += shift;
        }
        merge(&mut self.heads, &mut other.heads);
        merge(&mut self.reads, &mut other.reads);
    }
}

/// Appends, or takes the whole vector over where there is nothing to append to.
pub(super) fn merge<T>(all: &mut Vec<T>, more: &mut Vec<T>) {
    if all.is_empty() {
        std::mem::swap(all, more);
    } else {
        all.append(more);
    }
}
