//! What the wire costs: checksums, batches built, checked and walked, frames cut and written.
//!
//! `cargo bench -p logdrive-protocol --bench codec` prints time, rate and allocations of each for
//! batches of 1 KiB records and of 100-byte records. No socket and no broker: what those add is
//! measured by `logdrive bench`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a bench that cannot measure should stop"
)]

use std::fmt;

use bytes::{Bytes, BytesMut};
use divan::counter::{BytesCount, ItemsCount};
use divan::{AllocProfiler, Bencher, black_box};
use logdrive_protocol::TopicId;
use logdrive_protocol::batch::{
    BROKER_HEAD_BYTES, BatchBuilder, Head, NewRecord, Origin, Place, Records, check_delivered,
    check_produced, check_stored, place,
};
use logdrive_protocol::frame::FrameDecoder;
use logdrive_protocol::operations::{Answer, Delivered, Payload, Produce, Range, Request};
use tokio_util::codec::Decoder;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const TOPIC: TopicId = TopicId(1);
/// Frames and batches of the bench are far below it.
const LIMIT: u32 = 8 << 20;
/// What a socket gives at a time.
const READ_BYTES: usize = 64 << 10;

/// How many records of which size a batch holds.
#[derive(Clone, Copy)]
struct Shape {
    records: usize,
    value_bytes: usize,
}

const LARGE: Shape = Shape {
    records: 1_024,
    value_bytes: 1_024,
};
const SMALL: Shape = Shape {
    records: 10_000,
    value_bytes: 100,
};

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {} bytes", self.records, self.value_bytes)
    }
}

impl Shape {
    fn fill(self, builder: &mut BatchBuilder, value: &[u8]) {
        for number in 0..self.records as u64 {
            builder.push(&NewRecord {
                timestamp: 1_700_000_000_000_000 + number,
                value,
                ..NewRecord::default()
            });
        }
    }

    fn value(self) -> Vec<u8> {
        (0..=u8::MAX).cycle().take(self.value_bytes).collect()
    }

    fn produced(self) -> BytesMut {
        let mut builder = BatchBuilder::default();
        self.fill(&mut builder, &self.value());
        builder.finish(Origin::default())
    }

    fn stored(self) -> Bytes {
        let mut batch = self.produced();
        place(
            &mut batch,
            Place {
                topic: TOPIC,
                base_offset: 7,
                append_time: 1_700_000_000_000_000,
                leader_epoch: 0,
            },
        );
        batch.freeze()
    }

    fn request(self) -> Request {
        Request::Produce(Produce {
            topic: TOPIC,
            batch: Payload::Shared(self.produced().freeze()),
            ..Produce::default()
        })
    }
}

fn main() {
    divan::main();
}

/// The checksum alone: the floor under building and checking.
#[divan::bench(args = [LARGE, SMALL])]
fn crc(bencher: Bencher, shape: Shape) {
    let batch = shape.produced();
    let body = &batch[BROKER_HEAD_BYTES..];
    bencher
        .counter(BytesCount::of_slice(body))
        .bench(|| crc32c::crc32c(black_box(body)));
}

mod building {
    use super::{BatchBuilder, BytesCount, ItemsCount, LARGE, Origin, SMALL};
    use super::{Bencher, Shape};

    /// All records of a batch and its head, in a buffer with room for them.
    #[divan::bench(args = [LARGE, SMALL])]
    fn with_room(bencher: Bencher, shape: Shape) {
        let (value, room) = (shape.value(), shape.produced().len());
        bencher
            .counter(ItemsCount::new(shape.records))
            .counter(BytesCount::new(room))
            .with_inputs(|| BatchBuilder::with_capacity(room))
            .bench_local_values(|mut builder| {
                shape.fill(&mut builder, &value);
                builder.finish(Origin::default())
            });
    }

    /// The same in a buffer that grows: what a builder costs whose owner does not know the size.
    #[divan::bench(args = [LARGE, SMALL])]
    fn growing(bencher: Bencher, shape: Shape) {
        let value = shape.value();
        bencher
            .counter(ItemsCount::new(shape.records))
            .bench_local(|| {
                let mut builder = BatchBuilder::default();
                shape.fill(&mut builder, &value);
                builder.finish(Origin::default())
            });
    }
}

mod checking {
    use super::{Bencher, Shape};
    use super::{
        BytesCount, ItemsCount, LARGE, LIMIT, SMALL, TOPIC, black_box, check_delivered,
        check_produced, check_stored,
    };

    /// By the broker, once, on arrival.
    #[divan::bench(args = [LARGE, SMALL])]
    fn produced(bencher: Bencher, shape: Shape) {
        let batch = shape.produced();
        bencher
            .counter(ItemsCount::new(shape.records))
            .counter(BytesCount::of_slice(&batch))
            .bench(|| check_produced(black_box(&batch), LIMIT, LIMIT).expect("it is whole"));
    }

    /// By the broker, on every read from the disk.
    #[divan::bench(args = [LARGE, SMALL])]
    fn stored(bencher: Bencher, shape: Shape) {
        let batch = shape.stored();
        bencher
            .counter(BytesCount::of_slice(&batch))
            .bench(|| check_stored(black_box(&batch), TOPIC).expect("it is whole"));
    }

    /// By the client, before it hands records out.
    #[divan::bench(args = [LARGE, SMALL])]
    fn delivered(bencher: Bencher, shape: Shape) {
        let batch = shape.stored();
        bencher
            .counter(ItemsCount::new(shape.records))
            .counter(BytesCount::of_slice(&batch))
            .bench(|| check_delivered(black_box(&batch), TOPIC).expect("it is whole"));
    }
}

/// What the broker writes into the head of each batch.
#[divan::bench]
fn placing(bencher: Bencher) {
    let place_at = Place {
        topic: TOPIC,
        base_offset: 7,
        append_time: 1_700_000_000_000_000,
        leader_epoch: 0,
    };
    bencher
        .with_inputs(|| LARGE.produced())
        .bench_local_refs(|batch| {
            place(batch, black_box(place_at));
            Head::parse(batch)
        });
}

/// Every record of a batch, borrowed from it.
#[divan::bench(args = [LARGE, SMALL])]
fn walking(bencher: Bencher, shape: Shape) {
    let batch = shape.stored();
    bencher
        .counter(ItemsCount::new(shape.records))
        .counter(BytesCount::of_slice(&batch))
        .bench(|| {
            let values = Records::of(black_box(&batch)).map(|record| record.expect("it is whole"));
            values.map(|record| record.value.len()).sum::<usize>()
        });
}

mod frames {
    use super::{Answer, Bytes, Delivered, Range, Request};
    use super::{Bencher, Shape};
    use super::{
        BytesCount, BytesMut, Decoder, FrameDecoder, LARGE, LIMIT, READ_BYTES, SMALL, TOPIC,
        black_box,
    };

    /// A Produce as the client writes it: the batch itself is shared and not copied.
    #[divan::bench(args = [LARGE, SMALL])]
    fn encode_produce(bencher: Bencher, shape: Shape) {
        let request = shape.request();
        bencher.bench(|| black_box(&request).encode(7));
    }

    /// An answer with eight batches as the broker writes it.
    #[divan::bench(args = [LARGE, SMALL])]
    fn encode_delivered(bencher: Bencher, shape: Shape) {
        let batches = vec![shape.stored(); 8];
        let to = 8 * shape.records as u64;
        let answer = Answer::Fetch(Delivered {
            next: to,
            ranges: vec![Range {
                to,
                ..Range::default()
            }],
            batches,
            ..Delivered::default()
        });
        bencher.bench(|| black_box(&answer).encode(7));
    }

    /// A Produce out of a buffer that holds it whole, and its fields.
    #[divan::bench(args = [LARGE, SMALL])]
    fn decode_produce(bencher: Bencher, shape: Shape) {
        let bytes = shape.request().encode(7).concat();
        bencher
            .with_inputs(|| BytesMut::from(bytes.as_slice()))
            .bench_local_values(|mut input| {
                let frame = FrameDecoder::new(LIMIT).decode(&mut input);
                let frame = frame.expect("it is whole").expect("it is there");
                let request = Request::decode(frame.opcode, frame.body);
                (request.expect("it is known").expect("it is whole"), input)
            });
    }

    /// The same as it comes off a socket, 64 KiB at a time: the copies are those of a buffer that
    /// grows with what has arrived.
    #[divan::bench(args = [LARGE, SMALL])]
    fn decode_arriving(bencher: Bencher, shape: Shape) {
        let bytes = Bytes::from(shape.request().encode(7).concat());
        bencher
            .counter(BytesCount::of_slice(&bytes))
            .bench_local(|| {
                let (mut decoder, mut input) = (FrameDecoder::new(LIMIT), BytesMut::new());
                let mut frames = 0;
                for read in bytes.chunks(READ_BYTES) {
                    input.extend_from_slice(read);
                    while let Some(frame) = decoder.decode(&mut input).expect("it is whole") {
                        frames += frame.body.len();
                    }
                }
                assert!(frames > 0 && input.is_empty(), "{TOPIC:?} got its frame");
                frames
            });
    }
}

/// Packed batches of real log lines: of the files below `LOGDRIVE_BENCH_LOGS`, which must have more
/// than a batch holds, or else a batch repeats itself and packs too well.
mod packed {
    use std::path::PathBuf;

    use bytes::{Bytes, BytesMut};
    use divan::counter::BytesCount;
    use divan::{Bencher, black_box};
    use logdrive_protocol::batch::{
        self, BatchBuilder, Codec, Head, NewRecord, Origin, Packer, check_produced,
    };

    use super::LIMIT;

    const CODECS: [Option<Codec>; 3] = [None, Some(Codec::Lz4), Some(Codec::Zstd)];
    /// As a client's full batch.
    const BATCH_BYTES: usize = (1 << 20) - (1 << 10);

    fn filled() -> BatchBuilder {
        let below = std::env::var_os("LOGDRIVE_BENCH_LOGS").map_or_else(
            || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../data/logs")),
            PathBuf::from,
        );
        let mut files: Vec<PathBuf> = std::fs::read_dir(below)
            .expect("a directory of logs")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.extension().is_some_and(|it| it == "log"))
            .collect();
        files.sort();
        let bytes: Vec<Vec<u8>> = files.iter().flat_map(std::fs::read).collect();
        let lines = bytes.iter().flat_map(|it| it.split(|byte| *byte == b'\n'));
        let mut builder = BatchBuilder::default();
        for (number, value) in lines.cycle().enumerate() {
            let record = NewRecord {
                timestamp: 1_700_000_000_000_000 + number as u64,
                value,
                ..NewRecord::default()
            };
            if builder.len() + record.encoded_len() > BATCH_BYTES {
                break;
            }
            builder.push(&record);
        }
        builder
    }

    fn finish(mut builder: BatchBuilder, packer: Option<&mut Packer>) -> BytesMut {
        match packer {
            Some(packer) => builder.finish_packed(Origin::default(), packer),
            None => builder.finish(Origin::default()),
        }
    }

    fn produced(codec: Option<Codec>) -> BytesMut {
        let batch = finish(filled(), codec.map(Packer::new).as_mut());
        let head = Head::parse(&batch).expect("a head");
        let (records, bytes) = (head.count, batch.len());
        println!(
            "{codec:?}: {records} records, {} bytes, stored {bytes}",
            head.content_bytes
        );
        batch
    }

    /// Finishing a batch of 1 MiB: the checksum, and packing.
    #[divan::bench(args = CODECS)]
    fn finishes(bencher: Bencher, codec: Option<Codec>) {
        let mut packer = codec.map(Packer::new);
        bencher
            .counter(BytesCount::new(BATCH_BYTES))
            .with_inputs(filled)
            .bench_local_values(|builder| finish(builder, packer.as_mut()));
    }

    /// What the broker does with it before it stores it.
    #[divan::bench(args = CODECS)]
    fn checks_what_is_produced(bencher: Bencher, codec: Option<Codec>) {
        let batch = produced(codec);
        bencher
            .counter(BytesCount::new(BATCH_BYTES))
            .bench(|| check_produced(black_box(&batch), LIMIT, LIMIT).expect("it is whole"));
    }

    /// What a reader does with it before it looks at the records.
    #[divan::bench(args = CODECS)]
    fn unpacks(bencher: Bencher, codec: Option<Codec>) {
        let batch: Bytes = produced(codec).freeze();
        bencher
            .counter(BytesCount::new(BATCH_BYTES))
            .bench(|| batch::unpacked(black_box(&batch)).expect("it is whole"));
    }
}
