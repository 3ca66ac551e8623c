//! Packed batches: what was packed comes back, what was made to harm does not get far.
//!
//! Frames that no encoder would write are put together by hand here, from the pictures in the
//! formats' own documents.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::{Bytes, BytesMut};
use logdrive_protocol::TopicId;
use logdrive_protocol::batch::{
    self, BatchBuilder, BatchError, Codec, Head, NewRecord, Origin, Packer, Place, check_delivered,
    check_produced,
};
use logdrive_protocol::limits::{MAX_BATCH_BYTES, MAX_RECORD_BYTES, MAX_UNPACKED_BYTES};
use logdrive_protocol::operations::{Delivered, Range};
use proptest::prelude::*;

const CODECS: [Codec; 2] = [Codec::Lz4, Codec::Zstd];
const TOPIC: TopicId = TopicId(3);

/// Lines that repeat themselves as those of a log do.
fn lines(count: usize) -> Vec<String> {
    let line = |i: usize| format!("12:00:{:02} web-{} GET /index.html 200 {i}", i % 60, i % 7);
    (0..count).map(line).collect()
}

fn built<L: AsRef<[u8]>>(lines: &[L], codec: Option<Codec>) -> BytesMut {
    let mut builder = BatchBuilder::default();
    let headers = [("host".to_owned(), b"web-1".to_vec())];
    for (index, line) in lines.iter().enumerate() {
        builder.push(&NewRecord {
            // The second one is the oldest.
            timestamp: 1_000 + (index as u64 ^ 1),
            severity: 9,
            key: Some(b"k"),
            headers: &headers,
            value: line.as_ref(),
        });
    }
    match codec {
        Some(codec) => builder.finish_packed(Origin::default(), &mut Packer::new(codec)),
        None => builder.finish(Origin::default()),
    }
}

fn checked(batch: &[u8]) -> Result<Head, BatchError> {
    check_produced(batch, MAX_BATCH_BYTES, MAX_RECORD_BYTES)
}

/// A batch of one empty record's head with this section, signed as a faulty client would.
fn forged(attributes: u16, count: u32, content: u32, section: &[u8]) -> BytesMut {
    let mut builder = BatchBuilder::default();
    builder.push(&NewRecord::default());
    let mut batch = builder.finish(Origin::default());
    batch.truncate(batch::HEAD_BYTES);
    batch.extend_from_slice(section);
    let length = u32::try_from(batch.len()).unwrap();
    batch[4..8].copy_from_slice(&length.to_be_bytes());
    batch[48..50].copy_from_slice(&attributes.to_be_bytes());
    batch[52..56].copy_from_slice(&count.to_be_bytes());
    batch[72..76].copy_from_slice(&content.to_be_bytes());
    batch::sign_anew(&mut batch, Origin::default());
    batch
}

/// A zstd frame of blocks that each repeat one zero 128 KiB times.
fn zstd_of_zeros(blocks: usize) -> Vec<u8> {
    // Magic number, no content size, a window of 1 MiB.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x50];
    for block in 1..=blocks {
        let header = (128 << 10 << 3) | (1 << 1) | u32::from(block == blocks);
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

/// An lz4 block of one zero that is repeated about 255 times for each byte.
fn lz4_of_zeros(bytes: usize) -> Vec<u8> {
    let mut block = vec![0x1f, 0, 1, 0];
    block.resize(4 + bytes, 255);
    // The rest of the match's length, then the last literals.
    block.extend_from_slice(&[0, 0x50, 0, 0, 0, 0, 0]);
    block
}

#[test]
fn what_was_packed_comes_back_whatever_the_codec() {
    let lines = lines(5_000);
    let plain = built(&lines, None);
    let expected = checked(&plain).unwrap();
    for codec in CODECS {
        let packed = built(&lines, Some(codec));
        let head = checked(&packed).unwrap();
        assert!(
            packed.len() * 2 < plain.len(),
            "{codec:?}: {}",
            packed.len()
        );
        assert_eq!(Codec::of(head.attributes), Ok(Some(codec)));
        assert_eq!(
            (head.count, head.content_bytes, head.severity),
            (expected.count, expected.content_bytes, expected.severity)
        );
        let opened = batch::open(&packed).unwrap();
        let values = opened.records().map(|it| it.unwrap().value);
        assert!(values.eq(lines.iter().map(String::as_bytes)), "{codec:?}");
        // Unpacked it is the plain batch, but for the checksum.
        let unpacked = batch::unpacked(&packed.freeze()).unwrap();
        assert_eq!(unpacked[44..], plain[44..]);
        assert_eq!(unpacked.len(), plain.len());
    }
}

#[test]
fn one_record_and_what_does_not_shrink_stay_as_they_are() {
    let noise: Vec<Vec<u8>> = {
        let mut state = 7_u64;
        let mut next = || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            state.to_be_bytes()[0]
        };
        (0..50)
            .map(|_| (0..500).map(|_| next()).collect())
            .collect()
    };
    let one = [vec![b'x'; 10_000]];
    for codec in CODECS {
        for lines in [&noise[..], &one[..]] {
            let batch = built(lines, Some(codec));
            assert_eq!(batch, built(lines, None), "{codec:?}");
        }
    }
}

#[test]
fn where_nothing_packs_well_fewer_and_fewer_batches_are_tried_until_one_does() {
    let mut packer = Packer::new(Codec::Zstd);
    let mut noise = 7_u64;
    let mut tried = |packs: bool| {
        let mut builder = BatchBuilder::default();
        for _ in 0..20 {
            let value: [u8; 200] = std::array::from_fn(|_| {
                noise = noise.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                if packs { 0 } else { noise.to_be_bytes()[0] }
            });
            builder.push(&NewRecord {
                value: &value,
                ..NewRecord::default()
            });
        }
        let batch = builder.finish_packed(Origin::default(), &mut packer);
        Head::parse(&batch).unwrap().is_packed()
    };
    for _ in 0..3 {
        assert!(tried(true) && !tried(false));
        // One is passed over, whatever it is; then three, seven.
        let rest: Vec<bool> = [true, false, true, true, true, true]
            .into_iter()
            .map(&mut tried)
            .collect();
        assert_eq!(rest, [false, false, false, false, false, true]);
    }
}

#[test]
fn a_bomb_is_refused_with_its_own_error_and_a_head_that_lies_with_another() {
    let too_large = "the records of the batch unpack to more than 4194304 bytes";
    let lies = "the records unpack to more than the batch's head allows";
    let garbage = "the records do not unpack";
    let most = MAX_UNPACKED_BYTES;
    let half = zstd_of_zeros(16);
    for (what, attributes, count, content, section, expected) in [
        (
            "4 GiB of zstd",
            2,
            60_000,
            most,
            zstd_of_zeros(32_768),
            too_large,
        ),
        (
            "1 GiB of lz4",
            1,
            60_000,
            most,
            lz4_of_zeros(4 << 20 >> 1),
            too_large,
        ),
        (
            "a content over the limit",
            2,
            1,
            most + 1,
            half.clone(),
            too_large,
        ),
        ("2 MiB under a small head", 2, 2, 22, half.clone(), lies),
        (
            "a MiB of lz4 under a small head",
            1,
            2,
            22,
            lz4_of_zeros(5_000),
            lies,
        ),
        (
            "two frames",
            2,
            60_000,
            most,
            [half.clone(), half.clone()].concat(),
            garbage,
        ),
        (
            "a byte behind the frame",
            2,
            60_000,
            most,
            [&half[..], &[0]].concat(),
            garbage,
        ),
        (
            "a frame that is cut short",
            2,
            60_000,
            most,
            half[..half.len() - 1].to_vec(),
            garbage,
        ),
        (
            "a frame that wants a dictionary",
            2,
            1,
            100,
            vec![0x28, 0xb5, 0x2f, 0xfd, 0x21, 0x07, 0x01, 0x09, 0, 0, 0],
            garbage,
        ),
        ("no frame", 2, 1, 100, Vec::new(), garbage),
        ("no block", 1, 1, 100, Vec::new(), garbage),
        (
            "zeros that are no records",
            2,
            60_000,
            most,
            half,
            "a record's boundaries are broken",
        ),
    ] {
        let batch = forged(attributes, count, content, &section);
        let refused = checked(&batch).unwrap_err();
        assert_eq!(refused.to_string(), expected, "{what}");
        assert_eq!(
            check_stored_too(&batch).to_string(),
            expected,
            "{what}, stored"
        );
    }
}

/// The verdict on the same bytes as a faulty broker would send them.
fn check_stored_too(batch: &BytesMut) -> BatchError {
    let mut batch = batch.clone();
    batch::place(&mut batch, place(0));
    check_delivered(&batch, TOPIC).unwrap_err()
}

fn place(base_offset: u64) -> Place {
    Place {
        topic: TOPIC,
        base_offset,
        append_time: 1,
        leader_epoch: 0,
    }
}

#[test]
fn an_answer_of_mixed_codecs_is_unpacked_once_and_up_to_a_limit() {
    let lines = lines(100);
    let stored = |codec, base_offset| -> Bytes {
        let mut batch = built(&lines, codec);
        batch::place(&mut batch, place(base_offset));
        batch.freeze()
    };
    let codecs = [None, Some(Codec::Zstd), Some(Codec::Lz4)];
    let batches = codecs.into_iter().zip([0, 100, 200]);
    let mut delivered = Delivered {
        ranges: vec![Range {
            from: 50,
            to: 250,
            ..Range::default()
        }],
        batches: batches.map(|(codec, at)| stored(codec, at)).collect(),
        ..Delivered::default()
    };
    assert_eq!(delivered.records().count(), 50, "only what is not packed");
    delivered.check(TOPIC).unwrap();
    let values = delivered.records().map(|it| it.record.value);
    let expected = [&lines[50..], &lines[..], &lines[..50]].concat();
    assert!(values.eq(expected.iter().map(String::as_bytes)));

    // Each is within its own limit, and all of them together are not.
    let long: Vec<String> = (0..25_000).map(|_| "x".repeat(120)).collect();
    let packed = built(&long, Some(Codec::Zstd));
    let mut many = Delivered::default();
    for index in 0..11 {
        let mut batch = packed.clone();
        batch::place(&mut batch, place(index * 25_000));
        many.batches.push(batch.freeze());
    }
    let refused = many.check(TOPIC).unwrap_err().to_string();
    let beyond = "the batches of an answer unpack to more than 37748736 bytes";
    assert_eq!(refused, beyond);
}

#[test]
fn a_batch_gets_another_origin_without_being_built_again() {
    let origin = Origin {
        producer: logdrive_protocol::ProducerId(9),
        epoch: 4,
        sequence: 77,
    };
    for codec in [None, Some(Codec::Lz4), Some(Codec::Zstd)] {
        let before = built(&lines(50), codec);
        let mut after = before.clone();
        batch::sign_anew(&mut after, origin);
        let head = checked(&after).unwrap();
        let said = (head.producer, head.producer_epoch, head.sequence);
        assert_eq!(said, (origin.producer, origin.epoch, origin.sequence));
        assert_eq!(after[96..], before[96..]);
    }
}

proptest! {
    #[test]
    fn no_flipped_byte_of_a_packed_section_makes_anything_panic(
        codec in prop::sample::select(&CODECS[..]),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let batch = built(&lines(40), Some(codec));
        let mut section = batch[batch::HEAD_BYTES..].to_vec();
        for (at, bits) in flips {
            let at = at.index(section.len());
            section[at] ^= bits;
        }
        if let Some(cut) = cut {
            section.truncate(cut.index(section.len()));
        }
        let head = Head::parse(&batch).unwrap();
        // Signed, so that only the codec and the records stand in the way.
        let forged = forged(head.attributes, head.count, head.content_bytes, &section);
        let same = forged[batch::HEAD_BYTES..] == batch[batch::HEAD_BYTES..];
        let opened = batch::open(&forged).map(|it| it.records().flatten().count());
        prop_assert!(!same || opened == Ok(40));
        let _ = checked(&forged);
        let _ = batch::unpacked(&forged.freeze());
    }

    #[test]
    fn any_records_come_back(
        codec in prop::sample::select(&CODECS[..]),
        values in prop::collection::vec(prop::collection::vec(0..4_u8, 0..200), 2..60),
    ) {
        let mut builder = BatchBuilder::default();
        for value in &values {
            builder.push(&NewRecord { value, ..NewRecord::default() });
        }
        let batch = builder.finish_packed(Origin::default(), &mut Packer::new(codec));
        checked(&batch).unwrap();
        let opened = batch::open(&batch).unwrap();
        let got = opened.records().map(|it| it.unwrap().value);
        prop_assert!(got.eq(values.iter().map(Vec::as_slice)));
    }
}
