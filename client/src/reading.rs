//! What fetch and consume share: asking until there is an answer, and distrusting it.

use std::time::Duration;

use logdrive_protocol::operations::{Consume, Delivered, Operation};
use logdrive_protocol::{Outcome, TopicId};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::arrivals::Beginning;
use crate::backoff::Retry;
use crate::client::follow;
use crate::dialer::Dialer;
use crate::link::{Link, Parking};
use crate::{Error, ErrorKind};

/// How long one request for records that are not there yet stays parked at the broker.
pub(crate) const LONG_POLL: Duration = Duration::from_secs(30);

/// A request that goes on by itself; dropping it withdraws the request.
pub(crate) type Pending = AbortOnDropHandle<Landed>;

/// What became of a request for records.
#[derive(Debug)]
pub(crate) struct Landed {
    pub(crate) result: Result<Delivered, Error>,
    /// Whether an earlier attempt may have taken effect without an answer.
    pub(crate) uncertain: bool,
}

/// Asks in a task of its own.
pub(crate) fn begin<O>(dialer: &Dialer, request: O, asked: Option<u64>, parking: Parking) -> Pending
where
    O: Operation<Answer = Delivered> + Send + Sync + 'static,
{
    begin_eagerly(dialer, request, asked, parking, None)
}

/// The same; the first bytes of a long answer leave before it has arrived.
pub(crate) fn begin_eagerly<O>(
    dialer: &Dialer,
    request: O,
    asked: Option<u64>,
    parking: Parking,
    beginning: Option<oneshot::Sender<Beginning>>,
) -> Pending
where
    O: Operation<Answer = Delivered> + Send + Sync + 'static,
{
    let dialer = dialer.clone();
    AbortOnDropHandle::new(tokio::spawn(async move {
        ask_until(&dialer, &request, asked, parking, beginning).await
    }))
}

/// What a request's task gave, or why there is no task any more.
pub(crate) fn joined(joined: Result<Landed, tokio::task::JoinError>) -> Landed {
    joined.unwrap_or_else(|error| Landed {
        result: Err(Error::new(
            ErrorKind::Closed,
            format!("the request was given up: {error}"),
        )),
        uncertain: true,
    })
}

/// Asks for records, again and again as long as it makes sense, and checks what comes.
///
/// `asked` is the offset asked for, if it is one.
pub(crate) async fn ask_until<O: Operation<Answer = Delivered>>(
    dialer: &Dialer,
    request: &O,
    asked: Option<u64>,
    parking: Parking,
    mut beginning: Option<oneshot::Sender<Beginning>>,
) -> Landed {
    let mut retry = Retry::new(dialer.options());
    let mut uncertain = false;
    loop {
        let link = dialer.link().await;
        let sent = Instant::now();
        let answer = match &link {
            Ok(link) => ask_once(dialer, link, request, asked, parking, beginning.take()).await,
            Err(error) => Err(error.clone()),
        };
        let error = match answer {
            Ok(delivered) => {
                return Landed {
                    result: Ok(delivered),
                    uncertain,
                };
            }
            Err(error) => error,
        };
        retry.was_held(sent.elapsed(), parking.wait);
        uncertain |= error.outcome() == Outcome::Unknown;
        let pause = if error.is_retryable() {
            retry.failed_now(&error)
        } else {
            None
        };
        let Some(pause) = pause else {
            return Landed {
                result: Err(error),
                uncertain,
            };
        };
        tracing::debug!(%error, ?pause, "asking again for records");
        tokio::time::sleep(pause).await;
    }
}

async fn ask_once<O: Operation<Answer = Delivered>>(
    dialer: &Dialer,
    link: &Link,
    request: &O,
    asked: Option<u64>,
    parking: Parking,
    beginning: Option<oneshot::Sender<Beginning>>,
) -> Result<Delivered, Error> {
    match link.ask_eagerly(request, parking, beginning).await {
        Ok(mut delivered) => {
            let topic = parking.topic.unwrap_or_default();
            let consumes = O::OPCODE == Consume::OPCODE;
            check(&mut delivered, topic, asked, consumes)
                .inspect_err(|nonsense| link.distrust(nonsense.clone()))?;
            Ok(delivered)
        }
        Err(error) => {
            follow(dialer, link, &error).await;
            Err(error)
        }
    }
}

/// Refuses an answer that contradicts itself or the request, so that everything behind this may
/// rely on it. Its batches stand there unpacked then. An answer that consumes may give records again
/// that lie before its gaps.
pub(crate) fn check(
    delivered: &mut Delivered,
    topic: TopicId,
    asked: Option<u64>,
    consumes: bool,
) -> Result<(), Error> {
    delivered.check(topic).map_err(Error::protocol)?;
    let mut end = asked.unwrap_or(0);
    let spans = |from: u64, to: u64, end: &mut u64| {
        let fits = *end <= from && from < to && to <= delivered.next;
        *end = to;
        fits
    };
    for gap in &delivered.gaps {
        if !spans(gap.from, gap.to, &mut end) {
            return Err(Error::protocol("gaps that are not in order"));
        }
    }
    if consumes {
        end = 0;
    }
    for range in &delivered.ranges {
        if !spans(range.from, range.to, &mut end) {
            return Err(Error::protocol("ranges of offsets that are not in order"));
        }
    }
    let nothing = delivered.gaps.is_empty() && delivered.ranges.is_empty();
    // What a lease held may be over when its answer is asked for again.
    let over = consumes && nothing && delivered.status == Delivered::SOME;
    if nothing == (delivered.status == Delivered::SOME) && !over {
        return Err(Error::protocol("a status that contradicts the answer"));
    }
    let has_passed = delivered.status == Delivered::PASSED;
    if has_passed && asked.is_some_and(|asked| delivered.next <= asked) {
        // Asking again from there would go on for ever.
        return Err(Error::protocol("an answer that passed over nothing"));
    }
    if asked.is_some_and(|asked| delivered.next < asked) {
        return Err(Error::protocol("an answer that goes backwards"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use logdrive_protocol::batch::{self, BatchBuilder, NewRecord, Origin, Place};
    use logdrive_protocol::operations::{Gap, Range};

    const TOPIC: TopicId = TopicId(3);

    type Spoil = fn(&mut Delivered);

    fn batch(base_offset: u64, count: usize) -> Bytes {
        let mut builder = BatchBuilder::default();
        for _ in 0..count {
            builder.push(&NewRecord {
                value: b"line",
                ..NewRecord::default()
            });
        }
        let mut batch = builder.finish(Origin::default());
        let place = Place {
            topic: TOPIC,
            base_offset,
            append_time: 1,
            leader_epoch: 0,
        };
        batch::place(&mut batch, place);
        batch.freeze()
    }

    fn range(from: u64, to: u64) -> Range {
        Range {
            from,
            to,
            ..Range::default()
        }
    }

    fn sound() -> Delivered {
        Delivered {
            status: Delivered::SOME,
            high_watermark: 20,
            next: 16,
            gaps: vec![Gap {
                from: 8,
                to: 10,
                ..Gap::default()
            }],
            ranges: vec![range(10, 13), range(14, 16)],
            batches: vec![batch(10, 3), batch(13, 3)],
            ..Delivered::default()
        }
    }

    fn verdict(spoil: impl FnOnce(&mut Delivered)) -> String {
        let mut delivered = sound();
        spoil(&mut delivered);
        match check(&mut delivered, TOPIC, Some(8), false) {
            Ok(()) => "sound".to_owned(),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Protocol);
                error.message().to_owned()
            }
        }
    }

    #[test]
    fn a_sound_answer_passes() {
        assert_eq!(verdict(|_| ()), "sound");
    }

    #[test]
    fn an_answer_that_contradicts_itself_or_the_request_is_refused() {
        let broke = |what: &str| format!("the broker broke the protocol: {what}");
        let cases: [(Spoil, &str); 8] = [
            (
                |it| it.ranges[1].from = 12,
                "ranges of offsets that are not in order",
            ),
            (
                |it| it.ranges[0].from = 9,
                "ranges of offsets that are not in order",
            ),
            (
                |it| it.ranges[1].to = 17,
                "ranges of offsets that are not in order",
            ),
            (|it| it.gaps[0].from = 7, "gaps that are not in order"),
            (|it| it.gaps[0].to = 8, "gaps that are not in order"),
            (
                |it| it.status = Delivered::EMPTY,
                "a status that contradicts the answer",
            ),
            (
                |it| it.batches.swap(0, 1),
                "the batches of an answer overlap",
            ),
            (
                |it| it.batches[0] = it.batches[0].slice(..50),
                "the batch is shorter than its head",
            ),
        ];
        for (spoil, expected) in cases {
            assert_eq!(verdict(spoil), broke(expected));
        }
    }

    #[test]
    fn every_flipped_bit_of_a_batch_is_noticed() {
        for byte in 0..sound().batches[0].len() {
            let verdict = verdict(|it| {
                let mut flipped = it.batches[0].to_vec();
                flipped[byte] ^= 4;
                it.batches[0] = flipped.into();
            });
            assert_ne!(verdict, "sound", "byte {byte}");
        }
    }

    #[test]
    fn an_answer_that_passed_over_records_must_move_and_give_nothing() {
        let passed = |next| Delivered {
            status: Delivered::PASSED,
            next,
            ..Delivered::default()
        };
        assert!(check(&mut passed(8), TOPIC, Some(7), false).is_ok());
        assert!(check(&mut passed(8), TOPIC, None, false).is_ok());
        assert!(check(&mut passed(7), TOPIC, Some(7), false).is_err());
        assert_eq!(
            verdict(|it| it.status = Delivered::PASSED),
            "the broker broke the protocol: a status that contradicts the answer"
        );
    }

    #[test]
    fn an_empty_answer_may_not_go_back_behind_what_was_asked() {
        let mut empty = Delivered {
            status: Delivered::EMPTY,
            next: 7,
            ..Delivered::default()
        };
        assert!(check(&mut empty, TOPIC, Some(7), false).is_ok());
        assert!(check(&mut empty, TOPIC, Some(8), false).is_err());
    }
}
