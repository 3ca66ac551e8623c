//! Compares what a store was found to hold with what it may hold.
//!
//! Owns the verdict, as a text that says what is wrong. It changes nothing. Its neighbours:
//! [`held`](super::held) is the model, [`store`](super::store) asks after every start and recovery.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use logdrive_protocol::TopicId;
use logdrive_protocol::batch::{Head, Origin, Records};

use super::held::{self, Held, Known, Picture, RowMap, Sent};
use crate::storage::{At, Reader};
use crate::topic::state::{Planned, State};

/// Of each topic so many batches are sent again.
const RETRIES: usize = 4;

/// What was found, taken up.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) held: Arc<Held>,
    pub(super) topics: BTreeMap<TopicId, State>,
}

/// Which of the flushes that may be there was found, if it is there whole.
pub(super) fn judge(
    rows: &BTreeMap<TopicId, RowMap>,
    reader: &Reader,
    may_be: &[Arc<Held>],
    now: u64,
) -> Result<Found, String> {
    let found = may_be.iter().rev().find(|held| held.rows == *rows);
    let held = found.ok_or_else(|| no_flush(rows, may_be))?.clone();
    let mut topics = BTreeMap::new();
    for (&topic, known) in &held.topics {
        let stored: Vec<_> = rows[&topic].clone().into_iter().collect();
        let checked = State::load(topic, &stored)
            .map_err(|error| error.to_string())
            .and_then(|mut state| {
                state.begin_consumers(now);
                check_topic(&state, known, reader, now)?;
                let later = may_be.iter().filter(|it| it.number > held.number);
                check_unknown(&state, &held, later, now)?;
                Ok(state)
            });
        let state = checked.map_err(|what| {
            let number = held.number;
            format!("flush {number} was found, but of topic {topic}: {what}")
        })?;
        topics.insert(topic, state);
    }
    for (&log, batches) in &held.delay_logs {
        let of_log = |what| format!("delay log {}: {what}", log.0 & !(1 << 63));
        check_records(log, span_of(batches), batches, reader).map_err(of_log)?;
    }
    Ok(Found { held, topics })
}

fn no_flush(rows: &BTreeMap<TopicId, RowMap>, may_be: &[Arc<Held>]) -> String {
    let numbers: Vec<_> = may_be.iter().map(|held| held.number).collect();
    let mut text = format!(
        "one of the flushes {numbers:?} must be there, the first of them was acknowledged; \
         the rows that were found are of none:"
    );
    for held in may_be {
        let _ = write!(text, "\n  unlike flush {}:", held.number);
        let topics = held.rows.keys().chain(rows.keys());
        for topic in topics.collect::<std::collections::BTreeSet<_>>() {
            let none = RowMap::new();
            let expected = held.rows.get(topic).unwrap_or(&none);
            let got = rows.get(topic).unwrap_or(&none);
            let keys = expected.keys().chain(got.keys());
            for key in keys
                .filter(|key| expected.get(*key) != got.get(*key))
                .take(3)
            {
                let (expected, got) = (expected.get(key), got.get(key));
                let _ = write!(text, " [{key:02x?} is {got:02x?}, not {expected:02x?}]");
            }
        }
    }
    text
}

fn check_topic(state: &State, known: &Known, reader: &Reader, now: u64) -> Result<(), String> {
    let picture = Picture::of(state, known, now);
    if picture != known.picture {
        return Err(format!("it is {picture:?}, not {:?}", known.picture));
    }
    check_records(state.id, known.picture.span(), &known.batches, reader)?;
    for sent in known.sends.iter().rev().take(RETRIES) {
        check_retry(state, sent, now)?;
    }
    for (&producer, &(epoch, sequence)) in &known.producers {
        let origin = Origin {
            producer,
            epoch,
            sequence,
        };
        let next = held::batch(&[b"next".to_vec()], now, origin);
        if !matches!(state.plan(next, now), Ok(Planned::New(_))) {
            return Err(format!("producer {producer} cannot go on at {sequence}"));
        }
    }
    for (id, offsets) in &known.settled {
        let consumer = state.consumers.get(*id).map_err(|it| it.to_string())?;
        let outstanding = held::outstanding(consumer);
        let next = consumer.next().offset;
        let back = |offset: &&u64| **offset >= next || outstanding.contains(offset);
        if let Some(offset) = offsets.iter().find(back) {
            return Err(format!(
                "consumer {id} is given {offset} again: it was acked"
            ));
        }
    }
    Ok(())
}

fn span_of(batches: &[Bytes]) -> Range<u64> {
    let heads = || batches.iter().filter_map(|batch| Head::parse(batch));
    let first = heads().next().map_or(0, |head| head.base_offset);
    first..heads().next_back().map_or(0, |head| head.end_offset())
}

/// All records are there once, in order, as they were stored; and nothing is behind them.
fn check_records(
    topic: TopicId,
    span: Range<u64>,
    batches: &[Bytes],
    reader: &Reader,
) -> Result<(), String> {
    let read = read(reader, topic, span.start, span.end)?;
    if read != batches {
        let offsets = |batches: &[Bytes]| -> Vec<_> {
            let heads = batches.iter().filter_map(|batch| Head::parse(batch));
            heads.map(|it| it.base_offset..it.end_offset()).collect()
        };
        let (got, expected) = (offsets(&read), offsets(batches));
        return Err(format!(
            "records {span:?} were read as {got:?}, not {expected:?}"
        ));
    }
    if let Some(last) = batches.last().and_then(|batch| Head::parse(batch)) {
        let offset = last.base_offset.max(span.start);
        let located = reader.locate(topic, At::Offset(offset), span.end);
        let point = located.map_err(|error| error.to_string())?;
        if (point.offset, point.append_time) != (offset, Some(last.append_time)) {
            return Err(format!("record {offset} was located at {point:?}"));
        }
    }
    Ok(())
}

fn read(reader: &Reader, topic: TopicId, from: u64, end: u64) -> Result<Vec<Bytes>, String> {
    let mut all = Vec::new();
    let mut next = from;
    while next < end {
        let read = reader.read(topic, next, end, 10_000);
        let batches = read.map_err(|error| error.to_string())?.batches;
        let last = batches.last().and_then(|batch| Head::parse(batch));
        next = last.ok_or("a read gave nothing")?.end_offset();
        all.extend(batches);
    }
    Ok(all)
}

/// A retry gets its old offset, and stores nothing.
fn check_retry(state: &State, sent: &Sent, now: u64) -> Result<(), String> {
    match state.plan(sent.again(), now) {
        Ok(Planned::Durable(receipt)) if receipt.base_offset == sent.offset => Ok(()),
        other => Err(format!(
            "the retry of producer {} at {}, stored at {}, is {other:?}",
            sent.producer, sent.sequence, sent.offset
        )),
    }
}

/// What was staged and is not there is taken for new, if its producer is known at all.
fn check_unknown<'a>(
    state: &State,
    held: &Held,
    later: impl Iterator<Item = &'a Arc<Held>>,
    now: u64,
) -> Result<(), String> {
    let sends = later.flat_map(|it| it.sends());
    for sent in sends.filter(|it| it.topic == state.id && !held.has(it)) {
        match state.plan(sent.again(), now) {
            Ok(Planned::New(_)) | Err(_) => {}
            Ok(other) => {
                let (producer, at) = (sent.producer, sent.sequence);
                return Err(format!(
                    "producer {producer} at {at} is lost, but {other:?}"
                ));
            }
        }
    }
    Ok(())
}

/// No value is there twice; each one of a workload is different.
pub(super) fn check_once(held: &Held) -> Result<(), String> {
    let mut seen = std::collections::BTreeSet::new();
    for (topic, known) in &held.topics {
        for batch in &known.batches {
            for record in Records::of(batch) {
                let value = record.ok_or("a record cannot be read")?.value.to_vec();
                if !seen.insert(value) {
                    return Err(format!("topic {topic} has a record twice"));
                }
            }
        }
    }
    Ok(())
}
