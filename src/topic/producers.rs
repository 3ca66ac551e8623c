//! Registered producers of a topic: epochs, sequences, and which retries are recognized.
//!
//! Pure: no clock, no I/O; every change comes back as rows to be staged. Its neighbours:
//! [`State`](super::state::State) owns it and gives the offsets.
//!
//! ```text
//! register --> epoch e --produce s=0--> --produce s=n--> ... --register, new instance--> epoch e+1
//!                 |        a batch equal to one of the last 64: its old answer
//!                 |        the same sequence, other records:     SEQUENCE_REUSED
//!                 |        anything else out of line:            OUT_OF_SEQUENCE{next}
//!                 '-- unregister, or idle for too long --> forgotten: PRODUCER_NOT_FOUND
//! ```

use std::collections::{BTreeMap, VecDeque};

use logdrive_protocol::batch::Head;
use logdrive_protocol::limits::MAX_BATCHES_IN_FLIGHT;
use logdrive_protocol::{ErrorCode, Failure, ProducerId, TopicId};

use super::rows::{self, ProducerRow, REMEMBERED_PER_ROW, REMEMBERED_ROWS, Remembered};
use crate::clock::micros;
use crate::limits::{MAX_PRODUCERS, NAMED_PRODUCER_IDLE, UNNAMED_PRODUCER_IDLE};
use crate::planted::{self, Bug};
use crate::storage::Row;

/// Places for remembered batches: rows are used in a circle.
const PLACES: usize = REMEMBERED_PER_ROW * REMEMBERED_ROWS as usize;

/// All producers of one topic.
#[derive(Debug, Default)]
pub struct Producers {
    by_id: BTreeMap<ProducerId, Producer>,
    by_name: BTreeMap<String, ProducerId>,
}

#[derive(Debug, Default)]
struct Producer {
    row: ProducerRow,
    /// The newest batches, oldest first; their sequences ascend.
    remembered: VecDeque<Remembered>,
    /// Where the newest batch stands in the circle of places.
    place: Option<usize>,
}

impl Producer {
    fn next_sequence(&self) -> u64 {
        self.remembered
            .back()
            .map_or(self.row.first_sequence, Remembered::end)
    }

    /// Where the batch after the newest one goes.
    fn next_place(&self) -> usize {
        self.place.map_or(0, |place| (place + 1) % PLACES)
    }

    fn used_at(&self) -> u64 {
        let produced = self.remembered.back().map_or(0, |batch| batch.append_time);
        produced.max(self.row.registered_at)
    }

    fn is_idle(&self, now: u64) -> bool {
        let idle = if self.row.name.is_empty() {
            UNNAMED_PRODUCER_IDLE
        } else {
            NAMED_PRODUCER_IDLE
        };
        now.saturating_sub(self.used_at()) > micros(idle)
    }
}

/// What is to be done with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It follows the last one: append it.
    New,
    /// It is this one, sent again: answer as then.
    Retry(Remembered),
}

/// A registration as it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The producer.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: u32,
    /// The sequence to go on from.
    pub next_sequence: u64,
    /// Whether the id was given just now.
    pub new: bool,
}

impl Producers {
    /// Takes up a row at a start.
    pub fn load(&mut self, id: ProducerId, row: ProducerRow) {
        if !row.name.is_empty() {
            self.by_name.insert(row.name.clone(), id);
        }
        self.by_id.entry(id).or_default().row = row;
    }

    /// Takes up a row of remembered batches at a start; call [`Producers::loaded`] after the last.
    pub fn load_remembered(&mut self, id: ProducerId, block: u8, batches: &[Remembered]) {
        if planted::is(Bug::RetriesForgotten) {
            return;
        }
        let producer = self.by_id.entry(id).or_default();
        for (index, batch) in batches.iter().enumerate() {
            let newest = producer
                .remembered
                .iter()
                .all(|other| other.sequence < batch.sequence);
            if newest {
                producer.place = Some(usize::from(block) * REMEMBERED_PER_ROW + index);
            }
            producer.remembered.push_back(*batch);
        }
    }

    /// Puts what was loaded in order.
    pub fn loaded(&mut self) {
        for producer in self.by_id.values_mut() {
            producer
                .remembered
                .make_contiguous()
                .sort_by_key(|batch| batch.sequence);
            trim(&mut producer.remembered);
        }
    }

    /// How many are registered.
    pub fn count(&self) -> usize {
        self.by_id.len()
    }

    /// The ids that are registered.
    pub fn ids(&self) -> impl Iterator<Item = ProducerId> {
        self.by_id.keys().copied()
    }

    /// Registers by name, by id, or anew under `fresh`.
    ///
    /// The same instance gets the same epoch again, so that a retry fences nobody; the answer is
    /// stable until a batch is produced.
    ///
    /// # Errors
    /// `PRODUCER_NOT_FOUND` for an id that is not registered here, `LIMIT_REACHED`.
    pub fn register(
        &mut self,
        topic: TopicId,
        request: &logdrive_protocol::operations::RegisterProducer,
        fresh: ProducerId,
        now: u64,
    ) -> Result<(Registration, Vec<Row>), Failure> {
        let mut changed = Vec::new();
        let known = if request.producer.is_none() {
            self.by_name
                .get(&request.name)
                .copied()
                .filter(|_| !request.name.is_empty())
        } else {
            Some(request.producer)
        };
        let new = known.is_none();
        if new && self.by_id.len() >= MAX_PRODUCERS {
            changed = self.forget_idle(topic, now);
            if self.by_id.len() >= MAX_PRODUCERS {
                return Err(Failure::new(
                    ErrorCode::LimitReached,
                    format!("the topic has {MAX_PRODUCERS} producers"),
                )
                .hint("unregister those that are done, or share one producer among sends"));
            }
        }
        let id = known.unwrap_or(fresh);
        if new {
            self.by_id.insert(id, Producer::default());
            if !request.name.is_empty() {
                self.by_name.insert(request.name.clone(), id);
            }
        }
        let producer = self.by_id.get_mut(&id).ok_or_else(|| not_found(id))?;
        if planted::is(Bug::DuplicateAfterReconnect) && !new {
            producer.remembered.pop_back();
        }
        let row = &mut producer.row;
        if new || row.instance != request.instance || request.instance == 0 {
            row.epoch = row.epoch.saturating_add(1);
        }
        row.instance = request.instance;
        row.registered_at = now;
        if new {
            row.name.clone_from(&request.name);
        }
        changed.push(rows::producer(topic, id, row));
        let (epoch, next_sequence) = (row.epoch, producer.next_sequence());
        Ok((
            Registration {
                id,
                epoch,
                next_sequence,
                new,
            },
            changed,
        ))
    }

    /// Ends a registration.
    ///
    /// # Errors
    /// `PRODUCER_NOT_FOUND`, `FENCED_EPOCH`.
    pub fn unregister(
        &mut self,
        topic: TopicId,
        id: ProducerId,
        epoch: u32,
    ) -> Result<Vec<Row>, Failure> {
        let producer = self.by_id.get(&id).ok_or_else(|| not_found(id))?;
        check_epoch(id, epoch, producer.row.epoch)?;
        Ok(self.forget(topic, id))
    }

    fn forget(&mut self, topic: TopicId, id: ProducerId) -> Vec<Row> {
        if let Some(producer) = self.by_id.remove(&id) {
            self.by_name.remove(&producer.row.name);
        }
        rows::forget_producer(topic, id)
    }

    /// Forgets producers that were idle for too long.
    pub fn forget_idle(&mut self, topic: TopicId, now: u64) -> Vec<Row> {
        let idle: Vec<_> = self
            .by_id
            .iter()
            .filter(|(_, producer)| producer.is_idle(now))
            .map(|(id, _)| *id)
            .collect();
        idle.into_iter()
            .flat_map(|id| self.forget(topic, id))
            .collect()
    }

    /// Whether a batch follows its producer's last one, repeats one, or neither.
    ///
    /// # Errors
    /// `PRODUCER_NOT_FOUND`, `FENCED_EPOCH`, `SEQUENCE_REUSED`, `OUT_OF_SEQUENCE{next}`: not done.
    pub fn judge(&self, head: &Head) -> Result<Verdict, Failure> {
        let id = head.producer;
        let producer = self.by_id.get(&id).ok_or_else(|| not_found(id))?;
        check_epoch(id, head.producer_epoch, producer.row.epoch)?;
        let next = producer.next_sequence();
        if head.sequence == next {
            return Ok(Verdict::New);
        }
        let same = producer
            .remembered
            .binary_search_by_key(&head.sequence, |batch| batch.sequence)
            .ok()
            .and_then(|index| producer.remembered.get(index));
        match same {
            Some(batch) if batch.count == head.count && batch.crc == head.producer_crc => {
                Ok(Verdict::Retry(*batch))
            }
            Some(_) => Err(Failure::new(
                ErrorCode::SequenceReused,
                format!(
                    "producer {id} used sequence {} for other records",
                    head.sequence
                ),
            )
            .hint("stop one of the two senders that share this registration")),
            None => Err(Failure::new(
                ErrorCode::OutOfSequence,
                format!("producer {id} is at sequence {next}, not {}", head.sequence),
            )
            .numbers(next, 0)
            .hint("resend from that sequence, in order")),
        }
    }

    /// The row that remembering a batch will take, which [`Producers::judge`] called new.
    pub fn remembered_row(&self, topic: TopicId, id: ProducerId, batch: Remembered) -> Option<Row> {
        let producer = self.by_id.get(&id)?;
        let place = producer.next_place();
        let others = place % REMEMBERED_PER_ROW;
        let first = producer.remembered.len().saturating_sub(others);
        let mut row: Vec<_> = producer.remembered.range(first..).copied().collect();
        row.push(batch);
        let block = u8::try_from(place / REMEMBERED_PER_ROW).ok()?;
        Some(rows::remembered(topic, id, block, &row))
    }

    /// Remembers a batch, whose row is staged with it.
    pub fn remember(&mut self, id: ProducerId, batch: Remembered) {
        if let Some(producer) = self.by_id.get_mut(&id) {
            producer.place = Some(producer.next_place());
            producer.remembered.push_back(batch);
            trim(&mut producer.remembered);
        }
    }
}

fn trim(remembered: &mut VecDeque<Remembered>) {
    while remembered.len() > MAX_BATCHES_IN_FLIGHT as usize {
        remembered.pop_front();
    }
}

fn not_found(id: ProducerId) -> Failure {
    Failure::new(
        ErrorCode::ProducerNotFound,
        format!("producer {id} is not registered: it was forgotten or never was"),
    )
    .hint("register again; what is unanswered may or may not have been stored")
}

fn check_epoch(id: ProducerId, given: u32, current: u32) -> Result<(), Failure> {
    if given == current {
        return Ok(());
    }
    Err(Failure::new(
        ErrorCode::FencedEpoch,
        format!("producer {id} has epoch {current}, not {given}: another instance took over"),
    )
    .numbers(u64::from(current), 0)
    .hint("stop this instance, or register it again to take over"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::rows::Decoded;
    use logdrive_protocol::operations::RegisterProducer;

    const TOPIC: TopicId = TopicId(1);
    const ID: ProducerId = ProducerId(5);

    fn request(name: &str, instance: u64) -> RegisterProducer {
        RegisterProducer {
            name: name.into(),
            instance,
            ..RegisterProducer::default()
        }
    }

    fn head(sequence: u64, count: u32, crc: u32) -> Head {
        let mut head = Head::parse(&[0; 96]).unwrap();
        (head.producer, head.producer_epoch) = (ID, 1);
        (head.sequence, head.count, head.producer_crc) = (sequence, count, crc);
        head
    }

    fn registered() -> Producers {
        let mut producers = Producers::default();
        producers.register(TOPIC, &request("p", 9), ID, 1).unwrap();
        producers
    }

    /// Appends as the topic does: judged new, then remembered.
    fn append(producers: &mut Producers, sequence: u64, count: u32) -> Row {
        assert_eq!(producers.judge(&head(sequence, count, 7)), Ok(Verdict::New));
        let batch = Remembered {
            sequence,
            count,
            crc: 7,
            base_offset: sequence + 100,
            append_time: 2,
        };
        let row = producers.remembered_row(TOPIC, ID, batch).unwrap();
        producers.remember(ID, batch);
        row
    }

    fn check(producers: &Producers, batch: &Head, expected: &str) {
        let got = match producers.judge(batch) {
            Ok(Verdict::New) => "new".to_owned(),
            Ok(Verdict::Retry(batch)) => format!("retry of offset {}", batch.base_offset),
            Err(failure) => format!("{} {}", failure.code, failure.first),
        };
        assert_eq!(got, expected);
    }

    #[test]
    fn a_retry_is_recognized_and_everything_else_out_of_line_is_refused() {
        let mut producers = registered();
        append(&mut producers, 0, 10);
        append(&mut producers, 10, 5);
        check(&producers, &head(0, 10, 7), "retry of offset 100");
        check(&producers, &head(10, 5, 7), "retry of offset 110");
        check(&producers, &head(15, 1, 3), "new");
        check(&producers, &head(10, 5, 8), "SEQUENCE_REUSED 0");
        check(&producers, &head(10, 4, 7), "SEQUENCE_REUSED 0");
        check(&producers, &head(3, 5, 7), "OUT_OF_SEQUENCE 15");
        check(&producers, &head(16, 5, 7), "OUT_OF_SEQUENCE 15");
        check(
            &producers,
            &Head {
                producer_epoch: 2,
                ..head(15, 1, 7)
            },
            "FENCED_EPOCH 1",
        );
        check(
            &producers,
            &Head {
                producer: ProducerId(6),
                ..head(15, 1, 7)
            },
            "PRODUCER_NOT_FOUND 0",
        );
    }

    #[test]
    fn the_last_64_batches_are_recognized_also_after_a_start_from_rows() {
        let mut producers = registered();
        let mut stored = BTreeMap::new();
        for sequence in 0..200 {
            let row = append(&mut producers, sequence, 1);
            stored.insert(row.key, row.value.unwrap());

            let mut loaded = Producers::default();
            loaded.load(ID, producers.by_id[&ID].row.clone());
            for (key, value) in &stored {
                let Ok(Decoded::Remembered(id, block, batches)) = rows::decode(key, value) else {
                    panic!("not a row of remembered batches")
                };
                loaded.load_remembered(id, block, &batches);
            }
            loaded.loaded();
            assert_eq!(
                loaded.by_id[&ID].remembered,
                producers.by_id[&ID].remembered
            );
            assert_eq!(loaded.by_id[&ID].place, producers.by_id[&ID].place);
        }
        assert_eq!(producers.by_id[&ID].remembered.len(), 64);
        check(&producers, &head(136, 1, 7), "retry of offset 236");
        check(&producers, &head(135, 1, 7), "OUT_OF_SEQUENCE 200");
    }

    #[test]
    fn the_same_name_gives_the_same_id_and_a_new_instance_fences_the_old_one() {
        let mut producers = registered();
        append(&mut producers, 0, 10);
        let (again, _) = producers
            .register(TOPIC, &request("p", 9), ProducerId(8), 2)
            .unwrap();
        let expected = Registration {
            id: ID,
            epoch: 1,
            next_sequence: 10,
            new: false,
        };
        assert_eq!(again, expected, "a retry by the same instance");
        let (taken, _) = producers
            .register(TOPIC, &request("p", 10), ProducerId(8), 2)
            .unwrap();
        assert_eq!(
            taken,
            Registration {
                epoch: 2,
                ..expected
            }
        );
        check(&producers, &head(10, 1, 7), "FENCED_EPOCH 2");
    }

    #[test]
    fn idle_producers_are_forgotten_the_named_ones_later() {
        let mut producers = registered();
        producers
            .register(TOPIC, &request("", 1), ProducerId(6), 1)
            .unwrap();
        let day = micros(UNNAMED_PRODUCER_IDLE);
        assert_eq!(producers.forget_idle(TOPIC, day), vec![]);
        assert!(!producers.forget_idle(TOPIC, day + 2).is_empty());
        assert_eq!(producers.ids().collect::<Vec<_>>(), [ID]);
        producers.forget_idle(TOPIC, 7 * day + 2);
        assert_eq!(producers.count(), 0);
    }
}
