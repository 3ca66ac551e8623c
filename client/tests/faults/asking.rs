//! Fetching, consuming and single operations through faults.

use std::io::{self, Cursor};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::double::{Session, TOPIC, client, double, frame_of, greeting, options};
use bytes::Bytes;
use futures_util::FutureExt;
use logdrive_client::{
    Client, Connector, Consumer, ConsumerOptions, End, ErrorCode, ErrorKind, Event, Failure,
    FetchOptions, Fetcher, Located, Options, Pinged, Position, TopicPlace,
};
use logdrive_protocol::ConsumerId;
use logdrive_protocol::batch::{self, BatchBuilder, NewRecord, Origin, Place};
use logdrive_protocol::frame;
use logdrive_protocol::operations::{
    Answer, CancelPassed, Consume, ConsumerRegistered, DeleteTopic, Delivered, GoingAway,
    Operation, Ping, Range, Request, TopicDeleted, WorkerUnregistered,
};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

/// Records of these values from `base_offset` on, as a broker delivers them.
pub(crate) fn delivered(base_offset: u64, values: &[&str]) -> Delivered {
    let mut builder = BatchBuilder::default();
    for value in values {
        builder.push(&NewRecord {
            value: value.as_bytes(),
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
    let to = base_offset + values.len() as u64;
    Delivered {
        status: Delivered::SOME,
        high_watermark: to,
        next: to,
        ranges: vec![Range {
            from: base_offset,
            to,
            ..Range::default()
        }],
        batches: vec![batch.freeze()],
        ..Delivered::default()
    }
}

pub(crate) fn empty(next: u64) -> Delivered {
    Delivered {
        status: Delivered::EMPTY,
        high_watermark: next,
        next,
        ..Delivered::default()
    }
}

pub(crate) async fn register_consumer(session: &mut Session) {
    let (correlation, request) = session.next().await.unwrap();
    assert!(
        matches!(request, Request::RegisterConsumer(_)),
        "{request:?}"
    );
    let registered = ConsumerRegistered {
        topic: TOPIC,
        consumer: ConsumerId(9),
        ..ConsumerRegistered::default()
    };
    session
        .answer(correlation, Answer::RegisterConsumer(registered))
        .await;
}

pub(crate) async fn consume(session: &mut Session) -> (u32, Consume) {
    match session.next().await.expect("a consume") {
        (correlation, Request::Consume(consume)) => (correlation, consume),
        (_, other) => panic!("not a consume: {other:?}"),
    }
}

async fn locate(session: &mut Session) {
    let (correlation, request) = session.next().await.unwrap();
    assert!(matches!(request, Request::Metadata(_)), "{request:?}");
    let place = TopicPlace {
        id: TOPIC,
        ..TopicPlace::default()
    };
    let located = Located {
        topics: vec![place],
        ..Located::default()
    };
    session.answer(correlation, Answer::Metadata(located)).await;
}

async fn consumer(address: &str) -> Consumer {
    let options = ConsumerOptions::default();
    client(address)
        .await
        .consumer("c", &["app"], options)
        .await
        .unwrap()
}

/// The next record's value.
async fn value(consumer: &mut Consumer) -> Bytes {
    match consumer.get_next().await.unwrap() {
        Some(Event::Record(record)) => record.value,
        other => panic!("not a record: {other:?}"),
    }
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_by_the_same_worker_with_the_same_sequence() {
    let (address, script) = double(|mut broker| async move {
        let mut first = broker.accept().await;
        register_consumer(&mut first).await;
        let (_, asked) = consume(&mut first).await;
        drop(first);
        let mut second = broker.accept().await;
        let (correlation, again) = consume(&mut second).await;
        assert_eq!((again.worker, again.sequence), (asked.worker, 1));
        assert!(!again.worker.is_none());
        second
            .answer(correlation, Answer::Consume(delivered(5, &["a", "b"])))
            .await;
        let (correlation, next) = consume(&mut second).await;
        assert_eq!((next.worker, next.sequence), (asked.worker, 2));
        second.answer(correlation, Answer::Consume(empty(7))).await;
        let (correlation, next) = consume(&mut second).await;
        assert_eq!(next.sequence, 2, "an empty answer uses no sequence up");
        second
            .answer(correlation, Answer::Consume(delivered(7, &["c"])))
            .await;
    })
    .await;
    let mut consumer = consumer(&address).await;
    for expected in ["a", "b", "c"] {
        assert_eq!(value(&mut consumer).await, expected);
    }
    assert_eq!(consumer.buffered(), 0);
    script.await.unwrap();
}

#[tokio::test]
async fn a_wait_goes_on_as_long_as_each_broker_holds_it_for_a_while() {
    const LOSSES: u32 = 5;
    let mut options = options();
    options.retry_for = options.backoff.longest * LOSSES;
    let held = options.retry_for;
    let (address, script) = double(move |mut broker| async move {
        let mut session = broker.accept().await;
        register_consumer(&mut session).await;
        for _ in 0..LOSSES {
            consume(&mut session).await;
            // The wait itself is what is tried: each is as long as a run of failures may be.
            tokio::time::sleep(held).await;
            drop(session);
            session = broker.accept().await;
        }
        let (correlation, _) = consume(&mut session).await;
        session
            .answer(correlation, Answer::Consume(delivered(0, &["at last"])))
            .await;
        session.hung_up().await
    })
    .await;
    let client = Client::connect_with(&*address, options).await.unwrap();
    let mut consumer = client
        .consumer("c", &["app"], ConsumerOptions::default())
        .await
        .unwrap();
    assert_eq!(value(&mut consumer).await, "at last");
    drop((consumer, client));
    script.await.unwrap();
}

#[tokio::test]
async fn records_with_a_wrong_checksum_are_refused_and_the_next_call_asks_again() {
    let (address, script) = double(|mut broker| async move {
        let mut first = broker.accept().await;
        register_consumer(&mut first).await;
        let (correlation, _) = consume(&mut first).await;
        let mut wrong = delivered(0, &["a"]);
        let mut bytes = wrong.batches[0].to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        wrong.batches = vec![bytes.into()];
        first.answer(correlation, Answer::Consume(wrong)).await;
        first.hung_up().await;
        let mut second = broker.accept().await;
        let (correlation, again) = consume(&mut second).await;
        assert_eq!(again.sequence, 1);
        second
            .answer(correlation, Answer::Consume(delivered(0, &["a"])))
            .await;
    })
    .await;
    let mut consumer = consumer(&address).await;
    let error = consumer.get_next().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert_eq!(
        error.message(),
        "the broker broke the protocol: the producer's CRC-32C does not match"
    );
    assert_eq!(value(&mut consumer).await, "a");
    script.await.unwrap();
}

#[tokio::test]
async fn a_forgotten_worker_begins_again_at_sequence_one() {
    let (address, script) = double(|mut broker| async move {
        let mut session = broker.accept().await;
        register_consumer(&mut session).await;
        let (correlation, _) = consume(&mut session).await;
        session
            .answer(correlation, Answer::Consume(delivered(0, &["a"])))
            .await;
        let (correlation, next) = consume(&mut session).await;
        assert_eq!(next.sequence, 2);
        let forgotten = Failure::new(ErrorCode::WorkerForgotten, "idle for an hour");
        session
            .refuse(Consume::OPCODE, correlation, &forgotten)
            .await;
        let (correlation, again) = consume(&mut session).await;
        assert_eq!(again.sequence, 1);
        session
            .answer(correlation, Answer::Consume(delivered(1, &["b"])))
            .await;
    })
    .await;
    let mut consumer = consumer(&address).await;
    assert_eq!(value(&mut consumer).await, "a");
    assert_eq!(value(&mut consumer).await, "b");
    script.await.unwrap();
}

#[tokio::test]
async fn a_dropped_get_next_loses_nothing_and_try_next_replaces_what_is_parked() {
    let (parked, is_parked) = tokio::sync::oneshot::channel::<()>();
    let (address, script) = double(|mut broker| async move {
        let mut session = broker.accept().await;
        register_consumer(&mut session).await;
        let (first, asked) = consume(&mut session).await;
        assert!(asked.max_wait_ms > 0);
        parked.send(()).unwrap();
        // The newer request and the withdrawal of the older one come in either order.
        let mut cancelled = false;
        let mut newer = None;
        while !cancelled || newer.is_none() {
            match session.next().await.unwrap() {
                (correlation, Request::Cancel(cancel)) => {
                    assert_eq!((cancel.topic, cancel.correlation), (TOPIC, first));
                    session
                        .answer(correlation, Answer::Cancel(CancelPassed {}))
                        .await;
                    cancelled = true;
                }
                (correlation, Request::Consume(consume)) => {
                    assert_eq!((consume.sequence, consume.max_wait_ms), (1, 0));
                    newer = Some(correlation);
                }
                other => panic!("unexpected: {other:?}"),
            }
        }
        let withdrawn = Failure::new(ErrorCode::Cancelled, "a newer request came");
        session.refuse(Consume::OPCODE, first, &withdrawn).await;
        session
            .answer(newer.unwrap(), Answer::Consume(delivered(0, &["a"])))
            .await;
        let (correlation, next) = consume(&mut session).await;
        assert_eq!((next.sequence, next.max_wait_ms), (2, 0));
        session.answer(correlation, Answer::Consume(empty(1))).await;
        // What ends makes room for others.
        let (correlation, Request::UnregisterWorker(ended)) = session.next().await.unwrap() else {
            panic!("not a goodbye");
        };
        assert_eq!((ended.topic, ended.worker), (TOPIC, next.worker));
        session
            .answer(correlation, Answer::UnregisterWorker(WorkerUnregistered {}))
            .await;
        session.hung_up().await
    })
    .await;
    let mut consumer = consumer(&address).await;
    assert!(consumer.get_next().now_or_never().is_none());
    is_parked.await.unwrap();
    let Some(Event::Record(record)) = consumer.try_next().await.unwrap() else {
        panic!("not a record");
    };
    assert_eq!(record.value, "a");
    assert_eq!(consumer.try_next().await.unwrap(), None);
    assert_eq!(consumer.close().await, 0);
    assert_eq!(script.await.unwrap(), 0);
}

#[tokio::test]
async fn what_a_long_poll_found_long_ago_is_not_what_is_left_now() {
    let (parked, is_parked) = tokio::sync::oneshot::channel::<()>();
    let (address, script) = double(|mut broker| async move {
        let mut session = broker.accept().await;
        register_consumer(&mut session).await;
        let (long_poll, asked) = consume(&mut session).await;
        assert!(asked.max_wait_ms > 0);
        parked.send(()).unwrap();
        let (ping, request) = session.next().await.unwrap();
        assert!(matches!(request, Request::Ping(_)), "{request:?}");
        session.answer(long_poll, Answer::Consume(empty(0))).await;
        session.answer(ping, Answer::Ping(Pinged::default())).await;
        let (correlation, asked) = consume(&mut session).await;
        assert_eq!((asked.sequence, asked.max_wait_ms), (1, 0));
        session
            .answer(correlation, Answer::Consume(delivered(0, &["a"])))
            .await;
        session.hung_up().await
    })
    .await;
    let client = client(&address).await;
    let options = ConsumerOptions::default();
    let mut consumer = client.consumer("work", &["app"], options).await.unwrap();
    assert!(consumer.get_next().now_or_never().is_none());
    is_parked.await.unwrap();
    // Answered on the same connection, so the long poll's answer is here.
    client.ping().await.unwrap();
    assert!(consumer.try_next().await.unwrap().is_some());
    drop((consumer, client));
    script.await.unwrap();
}

#[tokio::test]
async fn close_says_how_many_taken_records_were_not_handed_out() {
    let (address, _script) = double(|mut broker| async move {
        let mut session = broker.accept().await;
        register_consumer(&mut session).await;
        let (correlation, _) = consume(&mut session).await;
        session
            .answer(correlation, Answer::Consume(delivered(0, &["a", "b", "c"])))
            .await;
        session.hung_up().await
    })
    .await;
    let mut taker = consumer(&address).await;
    assert_eq!(value(&mut taker).await, "a");
    assert_eq!(taker.buffered(), 2);
    let rest = taker.get_batch(None).await.unwrap().unwrap();
    let offsets: Vec<u64> = rest.records().map(|it| it.offset).collect();
    assert_eq!(offsets, [1, 2], "a batch is what is left of it");
    assert_eq!(taker.close().await, 0);
}

/// The values of all that a fetcher still gives.
async fn rest(fetcher: &mut Fetcher) -> Vec<Vec<u8>> {
    let mut values = Vec::new();
    while let Some(portion) = fetcher.next().await.unwrap() {
        values.extend(portion.records().map(|it| it.record.value.to_vec()));
    }
    values
}

#[tokio::test]
async fn a_fetcher_goes_on_where_it_was_after_a_lost_connection_and_stops_at_its_end() {
    let (address, script) = double(|mut broker| async move {
        let mut first = broker.accept().await;
        locate(&mut first).await;
        let mut asked = Vec::new();
        let (correlation, request) = first.next().await.unwrap();
        asked.push(request);
        let begin = Delivered {
            high_watermark: 4,
            ..delivered(0, &["a", "b"])
        };
        first.answer(correlation, Answer::Fetch(begin)).await;
        asked.push(first.next().await.unwrap().1);
        drop(first);
        let mut second = broker.accept().await;
        let (correlation, request) = second.next().await.unwrap();
        asked.push(request);
        second
            .answer(correlation, Answer::Fetch(delivered(2, &["c", "d", "e"])))
            .await;
        assert_eq!(second.hung_up().await, 0);
        let from = |it: Request| match it {
            Request::Fetch(fetch) => fetch.from,
            other => panic!("not a fetch: {other:?}"),
        };
        asked.into_iter().map(from).collect::<Vec<_>>()
    })
    .await;
    let client = client(&address).await;
    let options = FetchOptions::default();
    let mut fetcher = client
        .fetch("app", Position::Earliest, options)
        .await
        .unwrap();
    assert_eq!(fetcher.end_offset(), Some(4));
    let values = rest(&mut fetcher).await;
    assert_eq!(
        values,
        [b"a", b"b", b"c", b"d"],
        "nothing after the end of its beginning"
    );
    drop((client, fetcher));
    let two = Position::Offset(2);
    assert_eq!(script.await.unwrap(), [Position::Earliest, two, two]);
}

/// The next fetch from an offset; others before it are passed over.
async fn fetch_from(session: &mut Session, offset: u64) -> u32 {
    while let Some((correlation, request)) = session.next().await {
        if matches!(request, Request::Fetch(fetch) if fetch.from == Position::Offset(offset)) {
            return correlation;
        }
    }
    panic!("nobody asked for {offset}");
}

#[tokio::test]
async fn a_fetcher_asks_on_while_an_answer_arrives_and_again_if_it_breaks_off_and_ends_elsewhere() {
    let long = "x".repeat(300);
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| format!("{name}{long}"));
    let expected = [&a, &b, &c, &d].map(|value| value.clone().into_bytes());
    let (address, script) = double(|mut broker| async move {
        let mut first = broker.accept().await;
        locate(&mut first).await;
        let (correlation, _) = first.next().await.unwrap();
        let begin = Delivered {
            high_watermark: 4,
            ..delivered(0, &[&a])
        };
        first.answer(correlation, Answer::Fetch(begin)).await;
        let correlation = fetch_from(&mut first, 1).await;
        let two = Answer::Fetch(delivered(1, &[&b, &c]));
        first.raw(&two.encode(correlation).concat()[..200]).await;
        fetch_from(&mut first, 3).await;
        drop(first);
        let mut second = broker.accept().await;
        let correlation = fetch_from(&mut second, 1).await;
        let one = Answer::Fetch(delivered(1, &[&b]));
        second.answer(correlation, one).await;
        let correlation = fetch_from(&mut second, 2).await;
        let rest = Answer::Fetch(delivered(2, &[&c, &d]));
        second.answer(correlation, rest).await;
        second.hung_up().await;
    })
    .await;
    let client = client(&address).await;
    let options = FetchOptions::default();
    let mut fetcher = client
        .fetch("app", Position::Earliest, options)
        .await
        .unwrap();
    let values = rest(&mut fetcher).await;
    assert_eq!(values, expected);
    drop((client, fetcher));
    script.await.unwrap();
}

#[tokio::test]
async fn dropping_a_fetcher_that_waits_withdraws_its_request() {
    let (parked, is_parked) = tokio::sync::oneshot::channel::<()>();
    let (address, script) = double(|mut broker| async move {
        let mut session = broker.accept().await;
        locate(&mut session).await;
        let (correlation, _) = session.next().await.unwrap();
        session.answer(correlation, Answer::Fetch(empty(0))).await;
        let (correlation, _) = session.next().await.unwrap();
        parked.send(()).unwrap();
        let (_, request) = session.next().await.unwrap();
        (correlation, request)
    })
    .await;
    let client = client(&address).await;
    let options = FetchOptions {
        end: End::Follow,
        ..FetchOptions::default()
    };
    let mut fetcher = client
        .fetch("app", Position::Earliest, options)
        .await
        .unwrap();
    assert!(fetcher.next().now_or_never().is_none());
    is_parked.await.unwrap();
    drop(fetcher);
    let (parked, request) = script.await.unwrap();
    let Request::Cancel(cancel) = request else {
        panic!("not a cancel: {request:?}");
    };
    assert_eq!((cancel.topic, cancel.correlation), (TOPIC, parked));
}

/// Sends `bytes` as the answer to a ping and gives the client's verdict.
async fn answered_with(bytes: impl Fn(u32) -> Vec<u8> + Send + 'static) -> logdrive_client::Error {
    let (address, script) = double(|mut broker| async move {
        let mut session = broker.accept().await;
        let (correlation, _) = session.next().await.unwrap();
        session.raw(&bytes(correlation)).await;
        session.hung_up().await
    })
    .await;
    let error = client(&address).await.call(Ping {}).await.unwrap_err();
    assert_eq!(script.await.unwrap(), 0, "the connection is dropped");
    error
}

async fn nonsense(bytes: impl Fn(u32) -> Vec<u8> + Send + 'static, expected: &str) {
    let error = answered_with(bytes).await;
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    assert_eq!(
        error.to_string(),
        format!(
            "the broker broke the protocol: {expected}; is this address a logdrive broker of this \
             version?"
        )
    );
}

#[tokio::test]
async fn nonsense_is_named_and_ends_the_connection() {
    let pong = |correlation| frame_of(Ping::OPCODE, correlation, &Pinged::default());
    nonsense(
        move |it| pong(it + 1000),
        "an answer to request 1002, which has none outstanding",
    )
    .await;
    nonsense(
        move |it| frame_of(0x42, it, &Pinged::default()),
        "operation 0x02 answered with 0x42",
    )
    .await;
    nonsense(
        |_| vec![0xff; 10],
        "a frame of 4294967295 bytes is over the limit of 8388608",
    )
    .await;
    nonsense(
        |_| vec![0, 0, 0, 5, 1, 2, 3, 4, 5],
        "a frame of 5 bytes is shorter than its own header of 6",
    )
    .await;
    nonsense(
        |it| frame::encode(Ping::OPCODE, 0x10, it, &Pinged::default()).concat(),
        "flags 0x10 are not known",
    )
    .await;
    nonsense(
        |it| {
            let mut cut = vec![0, 0, 0, 7, Ping::OPCODE, 0];
            cut.extend(it.to_be_bytes());
            cut.push(0x80);
            cut.splice(3..4, [8]);
            cut.push(0x80);
            cut
        },
        "answer to Ping: field `now` is not a varint of at most 64 bits",
    )
    .await;
}

#[tokio::test]
async fn random_bytes_end_the_connection_and_never_more() {
    let mut random = fastrand::Rng::with_seed(20_240_711);
    for _ in 0..50 {
        let length = random.usize(1..200);
        let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..))
            .take(length)
            .collect();
        let (address, script) = double(|mut broker| async move {
            let mut session = broker.accept().await;
            session.next().await.unwrap();
            session.raw(&bytes).await;
        })
        .await;
        let error = client(&address).await.call(Ping {}).await.unwrap_err();
        script.await.unwrap();
        assert!(
            matches!(
                error.kind(),
                ErrorKind::Protocol | ErrorKind::ConnectionLost
            ),
            "{error}"
        );
    }
}

#[tokio::test]
async fn an_answer_cut_at_any_byte_is_no_answer_and_the_ping_is_asked_again() {
    let pinged = Pinged {
        state: 0,
        now: 1 << 40,
        free_bytes: 7,
    };
    let whole = frame_of(Ping::OPCODE, 2, &pinged);
    for cut in 0..whole.len() {
        let part = pinged.clone();
        let (address, script) = double(|mut broker| async move {
            let mut first = broker.accept().await;
            let (correlation, _) = first.next().await.unwrap();
            let bytes = frame_of(Ping::OPCODE, correlation, &part);
            first.raw(&bytes[..cut]).await;
            drop(first);
            let mut second = broker.accept().await;
            let (correlation, _) = second.next().await.unwrap();
            second.answer(correlation, Answer::Ping(part)).await;
        })
        .await;
        assert_eq!(
            client(&address).await.ping().await.unwrap(),
            pinged,
            "cut at {cut}"
        );
        script.await.unwrap();
    }
}

#[tokio::test]
async fn a_broker_that_falls_silent_is_left() {
    let (address, script) = double(|mut broker| async move {
        let first = broker.accept().await;
        let silent = first.hung_up();
        let mut second = broker.accept().await;
        let (correlation, _) = second.next().await.unwrap();
        second
            .answer(correlation, Answer::Ping(Pinged::default()))
            .await;
        silent.await
    })
    .await;
    let impatient = Options {
        request_timeout: Duration::from_millis(50),
        client_name: String::new(),
        ..options()
    };
    let client = Client::connect_with(&address, impatient).await.unwrap();
    let error = client.call(Ping {}).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    // The connection may end a moment after its request was given up.
    let again = loop {
        match client.call(Ping {}).await {
            Err(error) if error.kind() == ErrorKind::ConnectionLost => {}
            other => break other,
        }
    };
    again.unwrap();
    assert!(script.await.unwrap() >= 1);
}

/// These bytes again and again: something is always there to be read.
struct Ceaseless {
    bytes: Vec<u8>,
    at: usize,
}

impl AsyncRead for Ceaseless {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let end = self.bytes.len().min(self.at + into.remaining());
        into.put_slice(&self.bytes[self.at..end]);
        self.at = end % self.bytes.len();
        Poll::Ready(Ok(()))
    }
}

/// Notices came faster than they were read, and the timer was looked at only when nothing had come:
/// a request was waited for as long as they went on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_says_everything_but_the_answer_is_given_up_as_well() {
    let connector = Connector::new(async |_| {
        let notice = frame::encode(GoingAway::OPCODE, 0, frame::NOTICE, &GoingAway::default());
        let notices = Ceaseless {
            bytes: notice.concat().repeat(1_000),
            at: 0,
        };
        let greeting = Cursor::new(greeting());
        Ok(tokio::io::join(greeting.chain(notices), tokio::io::sink()))
    });
    let impatient = Options {
        request_timeout: Duration::from_millis(50),
        client_name: String::new(),
        connector: Some(connector),
        ..options()
    };
    let client = Client::connect_with("broker:1", impatient).await.unwrap();
    let asked = tokio::time::timeout(Duration::from_secs(20), client.call(Ping {})).await;
    let error = asked.expect("an end").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn a_topic_that_is_gone_at_the_second_asking_was_deleted_by_the_first() {
    let (address, script) = double(|mut broker| async move {
        let mut first = broker.accept().await;
        locate(&mut first).await;
        first.next().await.unwrap();
        drop(first);
        let mut second = broker.accept().await;
        let (correlation, _) = second.next().await.unwrap();
        let gone = Failure::new(ErrorCode::TopicNotFound, "gone");
        second.refuse(DeleteTopic::OPCODE, correlation, &gone).await;
        locate(&mut second).await;
        let (correlation, _) = second.next().await.unwrap();
        second.refuse(DeleteTopic::OPCODE, correlation, &gone).await;
        locate(&mut second).await;
        let (correlation, _) = second.next().await.unwrap();
        second
            .answer(correlation, Answer::DeleteTopic(TopicDeleted {}))
            .await;
    })
    .await;
    let client = client(&address).await;
    client.delete_topic("app").await.unwrap();
    let error = client.delete_topic("app").await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::TopicNotFound), "asked once");
    client.delete_topic("app").await.unwrap();
    script.await.unwrap();
}
