//! Runs the golden vectors, whose bytes and checksums a second implementation has made. It owns
//! what each kind of entry means for this crate; other languages do the same with the same files.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod support;

use bytes::BytesMut;
use logdrive_protocol::batch::{self, BatchBuilder, Head, NewRecord, Origin, Place, RecordView};
use logdrive_protocol::body::{Malformed, Reader, Writer};
use logdrive_protocol::frame::{FLAG_ERROR, Frame, FrameDecoder, FrameError, NOTICE};
use logdrive_protocol::limits::{MAX_BATCH_BYTES, MAX_FRAME_BYTES, MAX_RECORD_BYTES};
use logdrive_protocol::operations::{Delivered, NOTICES, OPERATIONS, Request};
use logdrive_protocol::position::PositionError;
use logdrive_protocol::preface::{BrokerPreface, ClientPreface, Limits};
use logdrive_protocol::{ErrorCode, Failure, Position, ProducerId, TopicId, name};
use serde_json::{Value, json};
use support::{Json, answer_name, codec, hex, large, small, text, unhex};
use tokio_util::codec::Decoder;

fn entries(file: &str) -> Vec<Value> {
    let Value::Array(entries) = serde_json::from_str(file).unwrap() else {
        panic!("a file of vectors is one array");
    };
    assert!(!entries.is_empty());
    entries
}

fn bytes(entry: &Value) -> BytesMut {
    unhex(text(&entry["hex"])).as_slice().into()
}

/// The text or the bytes as what `entry` says they are, in the words of the vectors.
fn decode(entry: &Value) -> Result<Value, Failure> {
    match text(&entry["kind"]) {
        "crc32c" => Ok(json!({ "value": format!("{:08x}", crc32c::crc32c(&bytes(entry))) })),
        "field" => {
            let value = decode_field(text(&entry["type"]), bytes(entry))?;
            Ok(json!({ "value": value }))
        }
        "client_preface" => decode_client_preface(bytes(entry)),
        "broker_preface" => decode_broker_preface(bytes(entry)),
        "frame" | "request" | "answer" | "error" | "notice" => decode_frame(entry),
        "position" => {
            let position: Position = logdrive_protocol::body::Body::from_bytes(bytes(entry))?;
            Ok(json!({ "fields": position.to_json() }))
        }
        "position_text" => text(&entry["text"])
            .parse::<Position>()
            .map(|position| json!({ "fields": position.to_json() }))
            .map_err(|error: PositionError| {
                Failure::new(ErrorCode::InvalidPosition, error.to_string())
            }),
        "topic_name" => name::check(text(&entry["text"]), ErrorCode::InvalidTopicName, "topic")
            .map(|()| json!({ "text": entry["text"] })),
        "batch" => decode_batch(entry),
        "stored_batch" => decode_stored_batch(entry),
        "delivery" => decode_delivery(entry),
        other => panic!("no vector is of kind {other}"),
    }
}

fn decode_field(kind: &str, bytes: BytesMut) -> Result<Value, Malformed> {
    let mut body = Reader::new(bytes);
    let name = "field";
    match kind {
        "u8" => body.u8(name).map(|it| it.to_json()),
        "u32" => body.u32(name).map(|it| it.to_json()),
        "u64" => body.u64(name).map(|it| it.to_json()),
        "boolean" => body.bool(name).map(|it| it.to_json()),
        "string" => body.string(name).map(|it| it.to_json()),
        "bytes" => body.bytes(name).map(|it| it.freeze().to_json()),
        "option of u64" => body
            .option(name, |body| body.u64(name))
            .map(|it| it.to_json()),
        "sequence of string" => {
            <Vec<String> as logdrive_protocol::body::Field>::take(&mut body, name)
                .map(|it| it.to_json())
        }
        other => panic!("no field is of type {other}"),
    }
}

fn encode_field(kind: &str, value: &Value) -> Vec<u8> {
    let mut out = Writer::default();
    match kind {
        "u8" => out.u8(small(value)),
        "u32" => out.u32(small(value)),
        "u64" => out.u64(large(value)),
        "boolean" => out.bool(value.as_bool().unwrap()),
        "string" => out.string(text(value)),
        "bytes" => out.bytes(&unhex(text(value))),
        "option of u64" => out.option(Option::<u64>::from_json(value), Writer::u64),
        "sequence of string" => {
            let texts = Vec::<String>::from_json(value);
            logdrive_protocol::body::Field::put(&texts, &mut out);
        }
        other => panic!("no field is of type {other}"),
    }
    out.into_bytes().to_vec()
}

fn decode_client_preface(mut bytes: BytesMut) -> Result<Value, Failure> {
    let preface = ClientPreface::decode(&mut bytes)?.expect("a whole preface");
    assert!(bytes.is_empty(), "all of it is taken");
    Ok(json!({ "fields": {
        "lowest": preface.lowest,
        "highest": preface.highest,
        "features": preface.features.to_string(),
    }}))
}

fn decode_broker_preface(mut bytes: BytesMut) -> Result<Value, Failure> {
    let preface = BrokerPreface::decode(&mut bytes)?.expect("a whole preface");
    assert!(bytes.is_empty(), "all of it is taken");
    Ok(json!({ "fields": {
        "version": preface.version,
        "lowest": preface.lowest,
        "highest": preface.highest,
        "features": preface.features.to_string(),
        "cluster": hex(&preface.cluster),
        "node": preface.node.to_string(),
        "frame_bytes": preface.limits.frame_bytes,
        "window_bytes": preface.limits.window_bytes,
        "batch_bytes": preface.limits.batch_bytes,
        "record_bytes": preface.limits.record_bytes,
        "batches_in_flight": preface.limits.batches_in_flight,
        "wait_ms": preface.limits.wait_ms,
        "idle_ms": preface.limits.idle_ms,
    }}))
}

fn encode_client_preface(fields: &Value) -> Vec<u8> {
    let mut out = BytesMut::new();
    ClientPreface {
        lowest: small(&fields["lowest"]),
        highest: small(&fields["highest"]),
        features: large(&fields["features"]),
    }
    .encode(&mut out);
    out.to_vec()
}

fn encode_broker_preface(fields: &Value) -> Vec<u8> {
    let mut out = BytesMut::new();
    BrokerPreface {
        version: small(&fields["version"]),
        lowest: small(&fields["lowest"]),
        highest: small(&fields["highest"]),
        features: large(&fields["features"]),
        cluster: Json::from_json(&fields["cluster"]),
        node: large(&fields["node"]),
        limits: Limits {
            frame_bytes: small(&fields["frame_bytes"]),
            window_bytes: small(&fields["window_bytes"]),
            batch_bytes: small(&fields["batch_bytes"]),
            record_bytes: small(&fields["record_bytes"]),
            batches_in_flight: small(&fields["batches_in_flight"]),
            wait_ms: small(&fields["wait_ms"]),
            idle_ms: small(&fields["idle_ms"]),
        },
    }
    .encode(&mut out);
    out.to_vec()
}

/// One frame cut from the stream; the correlation id that a lost boundary still names is compared
/// here, because an error does not carry it.
fn cut(entry: &Value) -> Result<Frame, Failure> {
    let limit = entry.get("limit").map_or(MAX_FRAME_BYTES, small);
    let mut stream = bytes(entry);
    let frame = FrameDecoder::new(limit).decode(&mut stream);
    let frame = frame.map_err(|error| {
        let correlation = match error {
            FrameError::TooLarge { correlation, .. } => correlation,
            _ => NOTICE,
        };
        assert_eq!(entry["correlation"], correlation);
        error.to_failure()
    })?;
    assert!(stream.is_empty(), "all of it is taken");
    Ok(frame.expect("a whole frame"))
}

fn decode_frame(entry: &Value) -> Result<Value, Failure> {
    let frame = cut(entry)?;
    let (opcode, correlation) = (frame.opcode, frame.correlation);
    let kind = text(&entry["kind"]);
    let body = match kind {
        "request" => {
            // By opcode alone, as a broker does, then by name for the fields.
            let request = Request::from_frame(frame.clone())?;
            assert_eq!(request.opcode(), opcode);
            operation_name(opcode)
        }
        "answer" => answer_name(operation_name(opcode)),
        "notice" => find(NOTICES, opcode),
        "error" => "Error",
        other => panic!("a frame does not hold a {other}"),
    };
    assert_eq!(frame.flags & FLAG_ERROR != 0, kind == "error");
    assert_eq!(correlation == NOTICE, kind == "notice");
    let fields = (codec(body).decode)(frame.body)?;
    Ok(json!({ "opcode": opcode, "correlation": correlation, "fields": fields }))
}

fn find(table: &[(u8, &'static str)], opcode: u8) -> &'static str {
    let found = table.iter().find(|(number, _)| *number == opcode);
    found.map_or_else(
        || panic!("nothing has opcode {opcode:#04x}"),
        |(_, name)| name,
    )
}

fn operation_name(opcode: u8) -> &'static str {
    find(OPERATIONS, opcode)
}

fn encode_frame(entry: &Value) -> Vec<u8> {
    let kind = text(&entry["kind"]);
    let (body, flags) = match kind {
        "request" => (text(&entry["operation"]), 0),
        "answer" => (answer_name(text(&entry["operation"])), 0),
        "notice" => (text(&entry["notice"]), 0),
        "error" => ("Error", FLAG_ERROR),
        other => panic!("a frame does not hold a {other}"),
    };
    let (opcode, correlation) = (small(&entry["opcode"]), small(&entry["correlation"]));
    (codec(body).encode)(opcode, flags, correlation, &entry["fields"])
}

fn record_json(head: &Head, record: &RecordView<'_>) -> Value {
    let headers: Vec<Value> = record
        .headers
        .clone()
        .map(|(name, value)| json!({ "name": String::from_utf8_lossy(name), "value": hex(value) }))
        .collect();
    json!({
        "timestamp": (head.lowest_timestamp + record.timestamp_delta).to_string(),
        "severity": record.severity,
        "key": record.key.map(hex),
        "headers": headers,
        "value": hex(record.value),
    })
}

fn batch_json(batch: &[u8], head: &Head) -> Value {
    let opened = batch::open(batch).unwrap();
    let records: Vec<Value> = opened
        .records()
        .map(|record| record_json(head, &record.unwrap()))
        .collect();
    json!({
        "producer": head.producer.0.to_string(),
        "epoch": head.producer_epoch,
        "sequence": head.sequence.to_string(),
        "records": records,
    })
}

fn decode_batch(entry: &Value) -> Result<Value, Failure> {
    let limit = |name: &str, default| entry.get(name).map_or(default, small);
    let batch = bytes(entry);
    let head = batch::check_produced(
        &batch,
        limit("batch_limit", MAX_BATCH_BYTES),
        limit("record_limit", MAX_RECORD_BYTES),
    )?;
    Ok(json!({ "fields": batch_json(&batch, &head) }))
}

fn decode_stored_batch(entry: &Value) -> Result<Value, Failure> {
    let batch = bytes(entry);
    let place = &entry["place"];
    let topic = place.get("topic").unwrap_or(&entry["topic"]);
    let head = batch::check_stored(&batch, TopicId(large(topic)))?;
    Ok(json!({
        "fields": batch_json(&batch, &head),
        "place": {
            "topic": head.topic.0.to_string(),
            "base_offset": head.base_offset.to_string(),
            "append_time": head.append_time.to_string(),
            "leader_epoch": head.leader_epoch.to_string(),
        },
    }))
}

fn decode_delivery(entry: &Value) -> Result<Value, Failure> {
    let mut delivered: Delivered = logdrive_protocol::body::Body::from_bytes(cut(entry)?.body)?;
    delivered.check(TopicId(large(&entry["topic"])))?;
    let records: Vec<Value> = delivered
        .records()
        .map(|record| {
            let head = Head::parse(record.batch).unwrap();
            let mut fields = record_json(&head, &record.record);
            fields["offset"] = record.offset.to_string().into();
            fields["append_time"] = record.append_time.to_string().into();
            assert_eq!(fields["timestamp"], record.timestamp.to_string());
            fields
        })
        .collect();
    Ok(json!({ "records": records }))
}

fn encode_batch(fields: &Value) -> BytesMut {
    let mut builder = BatchBuilder::default();
    for record in fields["records"].as_array().unwrap() {
        let headers: Vec<(String, Vec<u8>)> = record["headers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|header| {
                (
                    text(&header["name"]).to_owned(),
                    unhex(text(&header["value"])),
                )
            })
            .collect();
        let key = record["key"].as_str().map(unhex);
        builder.push(&NewRecord {
            timestamp: large(&record["timestamp"]),
            severity: small(&record["severity"]),
            key: key.as_deref(),
            headers: &headers,
            value: &unhex(text(&record["value"])),
        });
    }
    builder.finish(Origin {
        producer: ProducerId(large(&fields["producer"])),
        epoch: small(&fields["epoch"]),
        sequence: large(&fields["sequence"]),
    })
}

fn encode(entry: &Value) -> Vec<u8> {
    match text(&entry["kind"]) {
        "field" => encode_field(text(&entry["type"]), &entry["value"]),
        "client_preface" => encode_client_preface(&entry["fields"]),
        "broker_preface" => encode_broker_preface(&entry["fields"]),
        "request" | "answer" | "error" | "notice" => encode_frame(entry),
        "position" => {
            let mut out = Writer::default();
            let position = Position::from_json(&entry["fields"]);
            logdrive_protocol::body::Body::encode(&position, &mut out);
            out.into_bytes().to_vec()
        }
        "batch" => encode_batch(&entry["fields"]).to_vec(),
        "stored_batch" => {
            let (mut batch, place) = (encode_batch(&entry["fields"]), &entry["place"]);
            let place = Place {
                topic: TopicId(large(&place["topic"])),
                base_offset: large(&place["base_offset"]),
                append_time: large(&place["append_time"]),
                leader_epoch: large(&place["leader_epoch"]),
            };
            batch::place(&mut batch, place);
            batch.to_vec()
        }
        // A checksum is compared when it is decoded.
        "crc32c" => unhex(text(&entry["hex"])),
        other => panic!("no canonical vector is of kind {other}"),
    }
}

/// Everything that decoding found is in the entry, with the same value.
fn check_decodes(entry: &Value) {
    let decoded = decode(entry).unwrap_or_else(|failure| panic!("{}: {failure}", entry["name"]));
    for (field, value) in decoded.as_object().unwrap() {
        assert_eq!(&entry[field], value, "{}: {field}", entry["name"]);
    }
}

#[test]
fn canonical_vectors_are_what_is_written_and_read_back() {
    for entry in entries(include_str!("../vectors/canonical.json")) {
        check_decodes(&entry);
        assert_eq!(
            hex(&encode(&entry)),
            text(&entry["hex"]),
            "{}",
            entry["name"]
        );
    }
}

#[test]
fn accepted_vectors_are_read_though_nobody_writes_them() {
    for entry in entries(include_str!("../vectors/accept.json")) {
        check_decodes(&entry);
    }
}

#[test]
fn rejected_vectors_are_refused_with_the_error_that_they_name() {
    for entry in entries(include_str!("../vectors/reject.json")) {
        match decode(&entry) {
            Ok(value) => panic!("{} is read as {value}", entry["name"]),
            Err(failure) => assert_eq!(
                failure.code.name(),
                text(&entry["error"]),
                "{}: {failure}",
                entry["name"]
            ),
        }
    }
}

#[test]
fn every_operation_and_notice_has_canonical_vectors_in_each_direction() {
    let entries = entries(include_str!("../vectors/canonical.json"));
    let has = |kind: &str, key: &str, name: &str| {
        let found = |entry: &Value| entry["kind"] == kind && entry[key] == name;
        assert!(entries.iter().any(found), "no {kind} of {name}");
    };
    for (_, name) in OPERATIONS {
        has("request", "operation", name);
        has("answer", "operation", name);
    }
    for (_, name) in NOTICES {
        has("notice", "notice", name);
    }
}
