//! What must hold of this crate whatever bytes come: one function for each fuzz target.
//!
//! Each takes arbitrary bytes and panics where a promise is broken. `fuzz/` calls them with
//! libFuzzer, the tests below with the kept corpus and with random changes of it. Nothing here is
//! part of a build that is neither.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use tokio_util::codec::Decoder;

use crate::batch::{
    Head, Origin, Place, check_delivered, check_produced, check_stored, open, open_delivered,
    place, rebuild, sign_anew, unpacked,
};
use crate::body::Body;
use crate::frame::{self, Frame, FrameDecoder};
use crate::limits::{MAX_BATCH_BYTES, MAX_RECORD_BYTES};
use crate::operations::{Answer, Delivered, GoingAway, Request, StateChanged};
use crate::preface::{BrokerPreface, ClientPreface};
use crate::{Failure, Position, TopicId, name};

/// Longest frame in these trials.
const FRAME_BYTES: u32 = 1 << 20;
/// The topic of stored batches.
const TOPIC: TopicId = TopicId(7);

/// A stream is cut into the same frames however it arrives, and a frame is encoded as it came.
pub fn frames(bytes: &[u8]) {
    let (whole, error) = cut(bytes, bytes.len().max(1));
    for step in [1, 7] {
        assert_eq!(cut(bytes, step), (whole.clone(), error.clone()));
    }
    let mut rest = bytes;
    for frame in whole {
        let length = frame::HEADER_BYTES + frame.body.len();
        assert_eq!(rest[4], frame.opcode);
        assert_eq!(&rest[frame::HEADER_BYTES..length], &frame.body[..]);
        rest = &rest[length..];
    }
}

/// The frames of a stream that arrives in pieces, and why there are no more.
fn cut(bytes: &[u8], step: usize) -> (Vec<Frame>, Option<String>) {
    let mut decoder = FrameDecoder::new(FRAME_BYTES);
    let (mut buffer, mut frames) = (BytesMut::new(), Vec::new());
    for piece in bytes.chunks(step) {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                // Its correlation id is told where it has arrived, which the pieces decide.
                Err(error) => return (frames, Some(error.to_failure().message)),
            }
        }
    }
    (frames, None)
}

/// The first bytes of a connection, of both sides: what is understood means the same again.
pub fn prefaces(bytes: &[u8]) {
    let mut input = BytesMut::from(bytes);
    if let Ok(Some(client)) = ClientPreface::decode(&mut input) {
        let mut again = BytesMut::new();
        client.encode(&mut again);
        let decoded = ClientPreface::decode(&mut again);
        assert_eq!(decoded.ok().flatten(), Some(client));
    }
    let mut input = BytesMut::from(bytes);
    if let Ok(Some(broker)) = BrokerPreface::decode(&mut input) {
        let mut again = BytesMut::new();
        broker.encode(&mut again);
        let decoded = BrokerPreface::decode(&mut again);
        assert_eq!(decoded.ok().flatten(), Some(broker));
    }
}

/// The body of a request: the first byte is the opcode. What is understood means the same when it
/// was encoded again.
pub fn request(bytes: &[u8]) {
    let Some((opcode, body)) = bytes.split_first() else {
        return;
    };
    if let Some(Ok(request)) = Request::decode(*opcode, body.into()) {
        let again = Request::from_frame(only(&request.encode(1)));
        assert_eq!(again.ok().as_ref(), Some(&request));
    }
}

/// The body of an answer, an error or a notice, as a client reads it: the first byte is the opcode.
pub fn answer(bytes: &[u8]) {
    let Some((opcode, body)) = bytes.split_first() else {
        return;
    };
    same_again::<Failure>(body);
    same_again::<GoingAway>(body);
    same_again::<StateChanged>(body);
    // Never longer than a body that is there.
    let _ = Delivered::next_of(body);
    let Some(Ok(answer)) = Answer::decode(*opcode, body.into()) else {
        return;
    };
    let encoded = only(&answer.encode(1));
    let again = Answer::decode(*opcode, encoded.body);
    assert_eq!(again.and_then(Result::ok).as_ref(), Some(&answer));
    if let Answer::Fetch(mut delivered) | Answer::Consume(mut delivered) = answer {
        let _ = delivered.record_count();
        // Not checked: nothing is promised but an end.
        let _ = delivered.records().count();
        if delivered.check(TOPIC).is_ok() {
            let offsets: Vec<u64> = delivered.records().map(|record| record.offset).collect();
            assert!(offsets.is_sorted_by(|one, next| one < next), "{offsets:?}");
        }
    }
}

fn same_again<T: Body + PartialEq + Debug>(body: &[u8]) {
    if let Ok(value) = T::from_bytes(body.into()) {
        let encoded = only(&frame::encode(1, 0, 1, &value));
        assert_eq!(T::from_bytes(encoded.body).ok(), Some(value));
    }
}

fn only(parts: &[Bytes]) -> Frame {
    let mut bytes = BytesMut::from(&parts.concat()[..]);
    let decoded = FrameDecoder::new(u32::MAX).decode(&mut bytes);
    decoded
        .ok()
        .flatten()
        .unwrap_or_else(|| unreachable!("a whole frame was encoded"))
}

/// A batch as a producer sends it, its length and checksum made right: one that is taken can be
/// stored, delivered and rebuilt.
pub fn batch(bytes: &[u8]) {
    // As it is, nothing is promised but an answer.
    let _ = check_produced(bytes, MAX_BATCH_BYTES, MAX_RECORD_BYTES);
    let _ = check_stored(bytes, TOPIC);
    let _ = open(bytes).map(|opened| opened.records().count());
    let Some(head) = Head::parse(bytes) else {
        return;
    };
    let mut signed = BytesMut::from(bytes);
    signed[4..8].copy_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    sign_anew(
        &mut signed,
        Origin {
            producer: head.producer,
            epoch: head.producer_epoch,
            sequence: head.sequence,
        },
    );
    let Ok(taken) = check_produced(&signed, MAX_BATCH_BYTES, MAX_RECORD_BYTES) else {
        delivered(signed);
        return;
    };
    let plain = unpacked(&signed.clone().freeze());
    let Ok(plain) = plain else {
        unreachable!("a batch that was taken cannot be unpacked");
    };
    let records = open(&plain).map(|opened| opened.records().flatten().count());
    assert_eq!(records.ok(), Some(taken.count as usize));
    // A rebuilt one is delivered as well.
    let mut stored = BytesMut::from(&plain[..]);
    placed(&mut stored);
    if let Some(rebuilt) = rebuild(&stored, |delta| delta % 2 == 0) {
        assert!(check_delivered(&rebuilt, TOPIC).is_ok());
    }
    delivered(signed);
}

/// What was stored is delivered with records that are whole, or refused.
fn delivered(mut batch: BytesMut) {
    placed(&mut batch);
    let batch = batch.freeze();
    let opened = open_delivered(&batch, TOPIC);
    assert_eq!(
        check_delivered(&batch, TOPIC).ok(),
        opened.as_ref().ok().map(|(head, end, _)| (*head, *end))
    );
}

fn placed(batch: &mut BytesMut) {
    place(
        batch,
        Place {
            topic: TOPIC,
            base_offset: 10,
            append_time: 20,
            leader_epoch: 0,
        },
    );
}

/// Positions, durations, times and names as people type them.
pub fn words(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let _ = crate::position::parse_duration(text);
    let _ = crate::position::parse_time(text);
    let _ = name::is_valid(text);
    if let Ok(position) = text.parse::<Position>() {
        assert_eq!(
            position.to_string().parse::<Position>().ok(),
            Some(position)
        );
    }
}

#[cfg(test)]
#[path = "../../fuzz/trial.rs"]
mod trial;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bytes_break_the_cutting_into_frames() {
        trial::check("frames", 2_000, frames);
    }

    #[test]
    fn no_bytes_break_a_preface() {
        trial::check("prefaces", 2_000, prefaces);
    }

    #[test]
    fn no_bytes_break_the_body_of_a_request() {
        trial::check("request", 2_000, request);
    }

    #[test]
    fn no_bytes_break_the_body_of_an_answer() {
        trial::check("answer", 2_000, answer);
    }

    #[test]
    fn no_bytes_break_a_batch() {
        trial::check("batch", 2_000, batch);
    }

    #[test]
    fn no_bytes_break_positions_and_names() {
        trial::check("words", 2_000, words);
    }
}
