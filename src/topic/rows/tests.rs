//! Rows are for ever: what they were, they stay.

use super::*;
use std::fmt::Write;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn check(row: &Row, expected_key: &str, expected_value: &str, decoded: &Decoded) {
    let value = row.value.as_deref().unwrap();
    assert_eq!(
        (hex(&row.key).as_str(), hex(value).as_str()),
        (expected_key, expected_value)
    );
    assert_eq!(&decode(&row.key, value).unwrap(), decoded);
}

#[test]
fn rows_are_for_ever() {
    let topic_row = TopicRow {
        name: "app".into(),
        settings: vec![],
        created_at: 5,
        owner: "ann".into(),
        owner_created_at: 6,
    };
    check(
        &topic(TopicId(1), &topic_row),
        "000000000000000101",
        "03617070000503616e6e06",
        &Decoded::Topic(topic_row.clone()),
    );
    // As it was written before topics had owners.
    let row = Row {
        key: topic(TopicId(1), &topic_row).key,
        value: Some(vec![3, b'a', b'p', b'p', 0, 5]),
    };
    let of_nobody = TopicRow {
        owner: String::new(),
        owner_created_at: 0,
        ..topic_row
    };
    let value = row.value.as_deref().unwrap();
    assert_eq!(decode(&row.key, value).unwrap(), Decoded::Topic(of_nobody));
    let extent_row = ExtentRow {
        end: 300,
        end_records: 300,
        end_bytes: 9,
        ..ExtentRow::default()
    };
    check(
        &extent(TopicId(1), &extent_row),
        "000000000000000102",
        "000000ac02ac0209000000",
        &Decoded::Extent(extent_row.clone()),
    );
    let worker_row = WorkerRow {
        sequence: 3,
        from: 4,
        to: 6,
        used_at: 7,
        ..WorkerRow::default()
    };
    let due_row = DueRow {
        records: 3,
        bytes: 300,
    };
    let at = Due { time: 5, offset: 7 };
    check(
        &due(TopicId(1), at, &due_row),
        "00000000000000011100000000000000050000000000000007",
        "03ac02",
        &Decoded::Due(at, due_row.clone()),
    );
    let log_row = DelayLogRow {
        start: 1,
        end: 300,
        ..DelayLogRow::default()
    };
    check(
        &delay_log(TopicId(1), &log_row),
        "000000000000000110",
        "0100ac0200000000",
        &Decoded::DelayLog(log_row.clone()),
    );
    check(
        &worker(TopicId(1), ConsumerId(2), WorkerId(0xff), &worker_row),
        "000000000000000106000000000000000200000000000000ff",
        "030406070000",
        &Decoded::Worker(ConsumerId(2), WorkerId(0xff), worker_row.clone()),
    );
}

#[test]
fn remembered_batches_are_32_bytes_each() {
    let batch = Remembered {
        sequence: 1,
        count: 2,
        crc: 3,
        base_offset: 4,
        append_time: 5,
    };
    check(
        &remembered(TopicId(1), ProducerId(2), 7, &[batch, batch]),
        "000000000000000104000000000000000207",
        &"0000000000000001000000020000000300000000000000040000000000000005".repeat(2),
        &Decoded::Remembered(ProducerId(2), 7, vec![batch, batch]),
    );
}

#[test]
fn a_parcel_is_three_kinds_of_rows() {
    let (topic, consumer) = (TopicId(1), ConsumerId(2));
    let fate_row = FateRow {
        worker: WorkerId(5),
        duration: 1,
        due: 0,
        aside: false,
    };
    check(
        &fate(topic, consumer, 9, &fate_row),
        "00000000000000010700000000000000020000000000000009",
        "05010000",
        &Decoded::Fate(consumer, 9, fate_row.clone()),
    );
    let parcel_row = ParcelRow {
        runs: vec![RunRow {
            from: 40,
            count: 2,
            deliveries: 1,
        }],
        bytes: Bytes::from_static(&[3, 4]),
        keys: Bytes::new(),
    };
    check(
        &parcel(topic, consumer, 9, &parcel_row),
        "00000000000000010800000000000000020000000000000009",
        "010328020102030400",
        &Decoded::Parcel(consumer, 9, parcel_row.clone()),
    );
    check(
        &left(topic, consumer, 9, 1, vec![7]),
        "000000000000000109000000000000000200000000000000090001",
        "07",
        &Decoded::Left(consumer, 9, 1, Bytes::from_static(&[7])),
    );
    let removed = Gap {
        from: 3,
        to: 5,
        records: 2,
        ..Gap::default()
    };
    check(
        &gap(topic, consumer, &removed),
        "00000000000000010a00000000000000020000000000000003",
        "03050200000000",
        &Decoded::Gap(consumer, removed.clone()),
    );
}

#[test]
fn a_kind_of_a_newer_version_is_left_alone() {
    assert_eq!(
        decode(&key(TopicId(1), 0x70, &[]), b"?"),
        Ok(Decoded::Unknown)
    );
}
