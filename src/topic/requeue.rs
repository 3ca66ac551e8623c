//! Delivering records again that were given up.
//!
//! ```text
//!   dead letters of this consumer --read--> original offsets --stage--> waiting for delivery
//! ```
//!
//! The dead letter stays where it is. What retention has removed meanwhile is delivered from the
//! dead letter, at its own offset. A topic that was deleted and created again has other records at
//! those offsets: the time of their append tells them apart. Its neighbours: [`dead_letters`](super::dead_letters) says what
//! they look like, the storage's reader gives them.

use std::ops::Range;

use actix::Context;
use bytes::Bytes;
use logdrive_protocol::batch::{self, BatchBuilder, Head, Origin, Place};
use logdrive_protocol::limits::{DEFAULT_FETCH_BYTES, MAX_SETTLED};
use logdrive_protocol::operations::{Answer, Offsets, Requeue, Requeued};
use logdrive_protocol::{ErrorCode, Failure, TopicId};
use tokio::sync::oneshot;

use super::actor::{Topic, not_found};
use super::consumer::keys;
use super::consumer::parcel::Entry;
use super::dead_letters::{Grave, original};
use super::messages::Told;
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
        let consumer = match self.state.consumers.get(id) {
            Ok(consumer) => consumer,
            Err(failure) => return self.refuse(id.0, failure, reply),
        };
        if let Err(failure) = check(&request.ranges) {
            return reply.fail(failure);
        }
        let (sender, summary) = oneshot::channel();
        let dead_letters = request.dead_letters;
        self.around
            .broker
            .do_send(Told::Summary(dead_letters, sender));
        let own = Own {
            topic: self.state.id,
            name: self.state.name().to_owned(),
            consumer: consumer.name().to_owned(),
            kept: self.state.log.start().offset..self.state.log.visible().offset,
        };
        let (reader, pool) = (self.around.storage.reader(), self.around.pool.clone());
        let found = async move {
            let summary = summary.await.ok().flatten();
            let summary = summary.ok_or_else(|| not_found(dead_letters))?;
            check_there(&request.ranges, summary.log_start..summary.high_watermark)?;
            let read = pool.run(move || {
                let letters = read_letters(&reader, dead_letters, &request.ranges)?;
                own.check(&reader, &letters)?;
                Ok(letters)
            });
            match read.await {
                Ok(letters) => letters,
                Err(error) => Err(read_failure(ReadError::Unavailable(error))),
            }
        };
        Self::spawn_then(ctx, found, move |topic, found, ctx| {
            let requeued = found.and_then(|letters| {
                topic.check_writable()?;
                topic.state.requeue(id, &letters)
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

/// All offsets are those of records that the topic has.
fn check_there(ranges: &[Offsets], kept: Range<u64>) -> Result<(), Failure> {
    let gone = |it: &&Offsets| it.to > kept.end || it.from < kept.start;
    let Some(Offsets { from, to }) = ranges.iter().find(gone) else {
        return Ok(());
    };
    let Range { start, end } = kept;
    let what = format!(
        "dead letters {from} up to {to} are not all there: the topic has those from {start} up to {end}"
    );
    Err(Failure::new(ErrorCode::OffsetOutOfRange, what)
        .numbers(end, 0)
        .hint("name the offsets that a fetch of the dead-letter topic gives"))
}

/// Whose dead letters are wanted.
struct Own {
    topic: TopicId,
    name: String,
    consumer: String,
    /// The offsets of the records that the topic has.
    kept: Range<u64>,
}

impl Own {
    /// All letters are of this topic and this consumer; blocks. They stand in the order of the
    /// records that they were made of.
    fn check(&self, reader: &Reader, letters: &[Letter]) -> Result<(), Failure> {
        let mut batch = None;
        for letter in letters {
            let Letter { at, grave, .. } = letter;
            if grave.consumer != self.consumer || grave.topic != self.name {
                return Err(no_letter(at.offset));
            }
            let holds = |head: &Head| (head.base_offset..head.end_offset()).contains(&grave.offset);
            if !batch.as_ref().is_some_and(holds) {
                batch = self.head_at(reader, grave.offset)?;
            }
            let is_other = batch
                .as_ref()
                .is_some_and(|it| it.append_time != grave.append_time);
            if is_other || grave.offset >= self.kept.end {
                return Err(of_before(letter));
            }
        }
        Ok(())
    }

    /// The head of the batch of a record, where it can be read still; blocks.
    fn head_at(&self, reader: &Reader, offset: u64) -> Result<Option<Head>, Failure> {
        if !self.kept.contains(&offset) {
            return Ok(None);
        }
        match reader.read(self.topic, offset, offset + 1, 1) {
            Ok(read) => Ok(read.batches.first().and_then(|it| Head::parse(it))),
            Err(ReadError::Damaged { .. }) => Ok(None),
            Err(other @ ReadError::Unavailable(_)) => Err(read_failure(other)),
        }
    }
}

/// The letter's record was in a topic that had this name before.
fn of_before(letter: &Letter) -> Failure {
    let what = format!(
        "the dead letter at offset {} was record {} of another topic of this name, which is deleted",
        letter.at.offset, letter.grave.offset
    );
    Failure::new(ErrorCode::NotADeadLetter, what)
        .numbers(letter.at.offset, 0)
        .hint("produce its value again, if it is still wanted")
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
