//! Delivering records again that were given up.
//!
//! ```text
//!   dead letters of this consumer --read--> original offsets --stage--> waiting for delivery
//! ```
//!
//! The dead letter stays where it is. What retention has removed meanwhile is delivered from the
//! dead letter, at its own offset. Its neighbours: [`dead_letters`](super::dead_letters) says what
//! they look like, the storage's reader gives them.

use actix::Context;
use bytes::Bytes;
use logdrive_protocol::batch::{self, BatchBuilder, Head, Origin, Place};
use logdrive_protocol::limits::{DEFAULT_FETCH_BYTES, MAX_SETTLED};
use logdrive_protocol::operations::{Answer, Offsets, Requeue, Requeued};
use logdrive_protocol::{ErrorCode, Failure, TopicId};

use super::actor::Topic;
use super::consumer::keys;
use super::consumer::parcel::Entry;
use super::dead_letters::{Grave, original};
use super::rows::CopyRow;
use super::serving::read_failure;
use crate::limits::MAX_REQUEUED;
use crate::reply::Reply;
use crate::storage::{ReadError, Reader};

/// A dead letter that was found.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Where it is.
    pub at: CopyRow,
    /// What it says.
    pub grave: Grave,
    /// The record that it was made of.
    pub entry: Entry,
}

impl Topic {
    pub(super) fn requeue(&mut self, request: Requeue, reply: Reply, ctx: &mut Context<Self>) {
        let id = request.consumer;
        if let Err(failure) = self.state.consumers.get(id) {
            return self.refuse(id.0, failure, reply);
        }
        if let Err(failure) = check(&request.ranges) {
            return reply.fail(failure);
        }
        let (reader, pool) = (self.around.storage.reader(), self.around.pool.clone());
        let found = async move {
            let topic = request.dead_letters;
            let read = pool.run(move || read_letters(&reader, topic, &request.ranges));
            match read.await {
                Ok(letters) => letters,
                Err(error) => Err(read_failure(ReadError::Unavailable(error))),
            }
        };
        Self::spawn_then(ctx, found, move |topic, found, ctx| {
            let requeued = found.and_then(|letters| {
                topic.check_writable()?;
                let name = topic.state.consumers.get(id)?.name();
                let foreign = |letter: &&Letter| {
                    letter.grave.consumer != name || letter.grave.topic != topic.state.name()
                };
                match letters.iter().find(foreign) {
                    Some(letter) => Err(no_letter(letter.at.offset)),
                    None => topic.state.requeue(id, &letters),
                }
            });
            match requeued {
                Ok((records, change)) => {
                    topic.commit_then(change, reply, Answer::Requeue(Requeued { records }));
                    topic.wake(id, ctx);
                }
                Err(failure) => topic.refuse(id.0, failure, reply),
            }
        });
    }
}

fn check(ranges: &[Offsets]) -> Result<(), Failure> {
    let too_many = |what: String| {
        let failure = Failure::new(ErrorCode::LimitReached, what);
        Err(failure.hint("send several requests"))
    };
    if ranges.len() > MAX_SETTLED {
        return too_many(format!(
            "{} ranges are more than {MAX_SETTLED}",
            ranges.len()
        ));
    }
    let mut records: u64 = 0;
    for Offsets { from, to } in ranges {
        if from >= to {
            let what = format!("there is nothing from {from} up to {to}");
            return Err(Failure::new(ErrorCode::OffsetOutOfRange, what));
        }
        records = records.saturating_add(to - from);
    }
    if records > MAX_REQUEUED {
        return too_many(format!("{records} records are more than {MAX_REQUEUED}"));
    }
    Ok(())
}

fn no_letter(offset: u64) -> Failure {
    let what = format!("the record at offset {offset} is no dead letter of this consumer");
    Failure::new(ErrorCode::NotADeadLetter, what)
        .numbers(offset, 0)
        .hint("fetch the dead-letter topic: the headers logdrive.topic and .consumer say whose they are")
}

/// Reads dead letters; blocks.
fn read_letters(
    reader: &Reader,
    topic: TopicId,
    ranges: &[Offsets],
) -> Result<Vec<Letter>, Failure> {
    let mut letters = Vec::new();
    for Offsets { from, to } in ranges {
        let mut next = *from;
        while next < *to {
            let read = reader.read(topic, next, *to, DEFAULT_FETCH_BYTES as usize);
            // Beyond its end a topic has nothing, which is no damage.
            let read = read.map_err(|error| match error {
                ReadError::Damaged { from, .. } => no_letter(from),
                other @ ReadError::Unavailable(_) => read_failure(other),
            })?;
            let before = next;
            for batch in &read.batches {
                next = next.max(letters_of(batch, topic, next..*to, &mut letters)?);
            }
            if next == before {
                return Err(no_letter(next));
            }
        }
    }
    letters.sort_unstable_by_key(|letter| letter.entry.offset);
    letters.dedup_by_key(|letter| letter.entry.offset);
    Ok(letters)
}

/// The record at `offset` of `topic` as a batch of its own, made of its dead letter; blocks.
///
/// # Errors
/// [`ReadError::Damaged`] if the dead letter is not there any more.
pub(super) fn copy_of(
    reader: &Reader,
    at: &CopyRow,
    topic: TopicId,
    offset: u64,
) -> Result<Bytes, ReadError> {
    let read = reader.read(at.topic, at.offset, at.offset + 1, 1)?;
    let found = read.batches.first().and_then(|batch| {
        let head = Head::parse(batch)?;
        let opened = batch::open(batch).ok()?;
        let mut records = opened.records().flatten();
        let record = records.find(|it| head.base_offset + it.offset_delta == at.offset)?;
        let grave = Grave::of(&record).filter(|grave| grave.offset == offset)?;
        let timestamp = head.lowest_timestamp.saturating_add(record.timestamp_delta);
        let mut builder = BatchBuilder::default();
        builder.push(&original(&record, timestamp, &mut Vec::new()));
        let mut copy = builder.finish(Origin::default());
        let place = Place {
            topic,
            base_offset: offset,
            append_time: grave.append_time,
            leader_epoch: 0,
        };
        batch::place(&mut copy, place);
        batch::rebuild(&copy, |_| true)
    });
    let gone = || ReadError::Damaged {
        from: offset,
        to: offset + 1,
        what: "its dead letter is not where it was".to_owned(),
    };
    found.map(Into::into).ok_or_else(gone)
}

/// Takes the dead letters of a batch; the offset after it.
fn letters_of(
    batch: &Bytes,
    topic: TopicId,
    wanted: std::ops::Range<u64>,
    letters: &mut Vec<Letter>,
) -> Result<u64, Failure> {
    // It was checked when it was read.
    let (Some(head), Ok(opened)) = (Head::parse(batch), batch::open(batch)) else {
        return Ok(wanted.start);
    };
    for record in opened.records().flatten() {
        let offset = head.base_offset + record.offset_delta;
        if !wanted.contains(&offset) {
            continue;
        }
        let grave = Grave::of(&record).ok_or_else(|| no_letter(offset))?;
        let mut room = Vec::new();
        let content = original(&record, 0, &mut room).content_len();
        letters.push(Letter {
            at: CopyRow { topic, offset },
            entry: Entry {
                offset: grave.offset,
                bytes: u32::try_from(content).unwrap_or(u32::MAX),
                key: keys::number_of(record.key),
                deliveries: 0,
            },
            grave,
        });
    }
    Ok(head.end_offset())
}
