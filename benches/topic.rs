//! What a topic costs between the socket and the storage thread: batches staged and committed,
//! fetches and consumes served from memory.
//!
//! `cargo bench --bench topic` prints time, rate and allocations of each. It drives the plain
//! structs of [`logdrive::topic`]: no actor, no runtime, no disk.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a bench that cannot measure should stop"
)]

use std::fmt;

use bytes::BytesMut;
use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher, black_box};
use logdrive::reply::ConnectionId;
use logdrive::topic::consumer::workers::Taker;
use logdrive::topic::consumer::{Seen, Turn, Wish};
use logdrive::topic::rows::TopicRow;
use logdrive::topic::state::{Append, State};
use logdrive_protocol::batch::{BatchBuilder, NewRecord, Origin};
use logdrive_protocol::operations::RegisterProducer;
use logdrive_protocol::{ConsumerId, ProducerId, TopicId, WorkerId};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const NOW: u64 = 1_700_000_000_000_000;
const PRODUCER: ProducerId = ProducerId(5);
const CONSUMER: ConsumerId = ConsumerId(6);
const WORKER: WorkerId = WorkerId(7);
/// Batches that a fetch finds in memory.
const KEPT: usize = 64;

/// How many records of which size a batch holds.
#[derive(Clone, Copy)]
struct Shape {
    records: usize,
    value_bytes: usize,
}

const ONE: Shape = Shape {
    records: 1,
    value_bytes: 100,
};
const SMALL: Shape = Shape {
    records: 10_000,
    value_bytes: 100,
};
const LARGE: Shape = Shape {
    records: 1_024,
    value_bytes: 1_024,
};

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {} bytes", self.records, self.value_bytes)
    }
}

impl Shape {
    fn batch(self, origin: Origin) -> BytesMut {
        let value = vec![b'x'; self.value_bytes];
        let mut builder = BatchBuilder::default();
        for _ in 0..self.records {
            builder.push(&NewRecord {
                timestamp: NOW,
                value: &value,
                ..NewRecord::default()
            });
        }
        builder.finish(origin)
    }

    /// A topic with [`KEPT`] committed batches in memory and a consumer at its start.
    fn topic(self) -> State {
        let mut state = topic();
        for _ in 0..KEPT {
            let staged = state.produce(self.batch(Origin::default()), NOW);
            commit(&mut state, &staged.expect("the batch is whole"));
        }
        let start = state.log.start();
        let rows = state
            .consumers
            .create(state.id, CONSUMER, "bench", Vec::new(), start, 0);
        let change = state.stage(rows.expect("there is room"));
        state.commit(change.ticket);
        state
    }
}

fn topic() -> State {
    let row = TopicRow {
        name: "bench".to_owned(),
        ..TopicRow::default()
    };
    State::newborn(TopicId(1), row)
}

fn commit(state: &mut State, append: &Append) -> bool {
    match append {
        Append::New(_, change) => state.commit(change.ticket),
        Append::Staged(..) | Append::Durable(..) => false,
    }
}

fn main() {
    divan::main();
}

/// A batch checked, given offsets, staged and committed, for nobody in particular.
#[divan::bench(args = [ONE, SMALL, LARGE])]
fn produce(bencher: Bencher, shape: Shape) {
    let mut state = topic();
    bencher
        .counter(ItemsCount::new(shape.records))
        .with_inputs(|| shape.batch(Origin::default()))
        .bench_local_values(|batch| {
            let staged = state.produce(batch, NOW).expect("the batch is whole");
            commit(&mut state, &staged);
            state.log.shrink_tail(0);
            staged
        });
}

/// The same for a registered producer, whose sequence is judged and remembered.
#[divan::bench(args = [ONE, SMALL, LARGE])]
fn produce_in_sequence(bencher: Bencher, shape: Shape) {
    let mut state = topic();
    let request = RegisterProducer::default();
    let (registration, change) = state
        .register_producer(&request, PRODUCER, NOW)
        .expect("there is room");
    state.commit(change.ticket);
    let mut sequence = registration.next_sequence;
    let next = || {
        let batch = shape.batch(Origin {
            producer: registration.id,
            epoch: registration.epoch,
            sequence,
        });
        sequence += shape.records as u64;
        batch
    };
    bencher
        .counter(ItemsCount::new(shape.records))
        .with_inputs(next)
        .bench_local_values(|batch| {
            let staged = state.produce(batch, NOW).expect("it is the next one");
            commit(&mut state, &staged);
            state.log.shrink_tail(0);
            staged
        });
}

/// 64 staged batches that one notice commits: what a flush that many share costs the topic.
#[divan::bench]
fn commit_of_64(bencher: Bencher) {
    bencher
        .counter(ItemsCount::new(64_usize))
        .with_inputs(|| {
            let mut state = topic();
            for _ in 0..64 {
                let staged = state.produce(ONE.batch(Origin::default()), NOW);
                drop(staged.expect("the batch is whole"));
            }
            state
        })
        .bench_local_refs(|state| {
            let last = state.last_ticket();
            assert!(state.commit(black_box(last)), "there is more to see");
        });
}

/// A fetch of 1 MiB from memory.
#[divan::bench(args = [ONE, SMALL, LARGE])]
fn fetch(bencher: Bencher, shape: Shape) {
    let state = shape.topic();
    bencher.bench(|| {
        let slice = state.log.read(black_box(0), 0, 1 << 20);
        slice.expect("it is in memory")
    });
}

/// A consume of up to 1 MiB by one worker: its turn, the read, the cursor's move, the commit.
#[divan::bench(args = [ONE, SMALL, LARGE])]
fn consume(bencher: Bencher, shape: Shape) {
    consume_up_to(bencher, shape, 0);
}

/// The same of a single record, mostly in the middle of a batch.
#[divan::bench(args = [ONE, SMALL, LARGE])]
fn consume_one(bencher: Bencher, shape: Shape) {
    consume_up_to(bencher, shape, 1);
}

fn consume_up_to(bencher: Bencher, shape: Shape, max_records: u32) {
    let mut state = shape.topic();
    let mut sequence = 0;
    bencher.bench_local(|| {
        sequence += 1;
        let taker = Taker {
            consumer: CONSUMER,
            worker: WORKER,
            sequence,
        };
        let Ok(Turn::Next { next: from }) = state.consumers.turn(taker, NOW) else {
            unreachable!("each sequence is the next one");
        };
        let slice = state.log.read(from, max_records, 1 << 20);
        let slice = slice.expect("it is in memory");
        let seen = Seen {
            window: slice.from..slice.to,
            content: state.log.content(&slice),
            found: None,
        };
        let wish = Wish {
            max_records,
            lease: 0,
            connection: ConnectionId(1),
        };
        let given = state.take(taker, wish, &seen, NOW);
        let (_, change) = given.expect("it is registered");
        state.commit(change.ticket);
        if slice.to == state.log.visible().offset {
            // Begins again at the end, so that there is always something left.
            let start = state.log.start();
            let back = state.seek(CONSUMER, start, None);
            state.commit(back.expect("it is registered").ticket);
        }
        (slice, change)
    });
}
