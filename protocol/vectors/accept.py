"""Accepted entries: bytes that nobody has to write and everybody has to read."""

from canonical import broker_fields, stored
from packing import LZ4, ZSTD, lz4_block, lz4_literals, zstd_raw, zstd_runs
from story import ANSWERS, DELIVERED, LIMITS, NOON, PRODUCED, RECORDS, REQUESTS, STORED
from wire import (
    BODIES,
    Batch,
    FLAG_ERROR,
    OPERATIONS,
    U32_MAX,
    U64_MAX,
    broker_preface,
    client_preface,
    encode_body,
    encode_value,
    frame,
    join,
    json_body,
    json_record,
    record,
    record_pieces,
    with_length,
    zero,
)


def decoded(name, kind, body, opcode, values, data, flags=0, **more):
    return {
        "name": name,
        "kind": kind,
        **more,
        "opcode": opcode,
        "correlation": 5,
        "fields": json_body(body, values),
        "hex": frame(opcode, flags, 5, data).hex(),
    }


def accept():
    out = []
    for name, (opcode, answer) in OPERATIONS.items():
        for kind, body, values in [
            ("request", name, REQUESTS[name]),
            ("answer", answer, ANSWERS[name]),
        ]:
            whole = join(encode_body(body, values))
            entry = {"operation": name}
            if BODIES[body]:
                out.append(
                    decoded(
                        f"{name} {kind} of an empty body",
                        kind,
                        body,
                        opcode,
                        zero(body),
                        b"",
                        **entry,
                    )
                )
            out.append(
                decoded(
                    f"{name} {kind} with a tail of a newer version",
                    kind,
                    body,
                    opcode,
                    values,
                    whole + b"\x01\x02\xff",
                    **entry,
                )
            )
            # Cut after every top-level field: all that is missing is zero, false, none or empty.
            for index in range(1, len(BODIES[body])):
                kept = BODIES[body][:index]
                cut = b"".join(join(encode_value(k, values[f], f)) for f, k in kept)
                expected = {f: values[f] if (f, k) in kept else zero(k) for f, k in BODIES[body]}
                out.append(
                    decoded(
                        f"{name} {kind} that ends after {kept[-1][0]}",
                        kind,
                        body,
                        opcode,
                        expected,
                        cut,
                        **entry,
                    )
                )
    out += accept_details()
    return out


def accept_details():
    size, size_opcode = REQUESTS["Size"], 0x44
    seek = {"topic": 1, "consumer": 5, "to": (9, 0)}
    error = {**zero("Error"), "code": 20, "message": "no"}
    summary = {
        "name": "a",
        "topic": 1,
        "log_start": 0,
        "high_watermark": 0,
        "records": 0,
        "bytes": 0,
    }
    grown = join(encode_body("TopicSummary", summary)) + b"\x07new"
    out = [
        decoded(
            "numbers in more bytes than they need",
            "request",
            "Size",
            size_opcode,
            size,
            bytes.fromhex("8100 858000"),
            operation="Size",
        ),
        decoded(
            "an ignorable flag that is not known",
            "request",
            "Size",
            size_opcode,
            size,
            b"\x01\x05",
            flags=0x0F,
            operation="Size",
        ),
        decoded(
            "a position of a newer version",
            "request",
            "Seek",
            0x43,
            seek,
            bytes.fromhex("01 05 09 07"),
            operation="Seek",
        ),
        decoded(
            "the earliest position with a value that means nothing",
            "request",
            "Seek",
            0x43,
            {**seek, "to": (0, 0)},
            bytes.fromhex("01 05 00 07"),
            operation="Seek",
        ),
        decoded(
            "an error that ends after its message",
            "error",
            "Error",
            0x22,
            error,
            b"\x14\x02no",
            flags=FLAG_ERROR,
        ),
        decoded(
            "an error with a tail of a newer version",
            "error",
            "Error",
            0x22,
            error,
            b"\x14\x02no\x00\x00\x00\x00\x09",
            flags=FLAG_ERROR,
        ),
        decoded(
            "an element with a tail of a newer version",
            "answer",
            "TopicsListed",
            0x12,
            {"topics": [summary], "more": True},
            b"\x01" + with_length(grown) + b"\x01",
            operation="ListTopics",
        ),
        decoded(
            "an element that ends early",
            "answer",
            "TopicsListed",
            0x12,
            {"topics": [{**summary, "name": "b", "topic": 0}], "more": False},
            bytes.fromhex("01 02 01 62"),
            operation="ListTopics",
        ),
        decoded(
            "a cluster of no bytes",
            "answer",
            "Greeted",
            0x01,
            zero("Greeted"),
            bytes.fromhex("00 00 00"),
            operation="Hello",
        ),
        decoded(
            "an acknowledgement level of a newer version",
            "answer",
            "Produced",
            0x22,
            {**zero("Produced"), "durability": 9},
            bytes.fromhex("00 00 09"),
            operation="Produce",
        ),
    ]
    args = (1, 1, 1, 0, bytes(16), 1, LIMITS)
    out.append(
        {
            "name": "a broker's preface with a tail of a newer version",
            "kind": "broker_preface",
            "fields": broker_fields(*args),
            "hex": join(broker_preface(*args, tail=b"new")).hex(),
        }
    )
    # Brokers of before there was an idle time send four bytes less.
    before = {name: value for name, value in LIMITS.items() if name != "idle_ms"}
    out.append(
        {
            "name": "a broker's preface of before there was an idle time",
            "kind": "broker_preface",
            "fields": broker_fields(1, 1, 1, 0, bytes(16), 1, {**before, "idle_ms": 0}),
            "hex": join(broker_preface(1, 1, 1, 0, bytes(16), 1, before)).hex(),
        }
    )
    fields = {"lowest": 1, "highest": 1, "features": "0"}
    out.append(
        {
            "name": "a client's preface with reserved bytes set",
            "kind": "client_preface",
            "fields": fields,
            "hex": join(client_preface(1, 1, 0, U32_MAX)).hex(),
        }
    )
    out += accept_batches()
    for text, kind, value in [
        ("earliest", 0, 0),
        ("LATEST", 1, 0),
        ("0", 2, 0),
        (str(U64_MAX), 2, U64_MAX),
        ("-100", 3, 100),
        ("2026-01-01T12:00:00Z", 4, NOON),
        ("2026-01-01T13:00:00.5+01:00", 4, NOON + 500_000),
        ("1h30m", 5, 5_400_000_000),
        ("250ms", 5, 250_000),
        ("1d", 5, 86_400_000_000),
        ("7us", 5, 7),
    ]:
        out.append(
            {
                "name": f"the position {text}",
                "kind": "position_text",
                "text": text,
                "fields": {"kind": kind, "value": str(value)},
            }
        )
    for text in ("a", "T-1", "app.web_2", "-", "x" * 128):
        out.append({"name": f"the name {text[:20]}", "kind": "topic_name", "text": text})
    return out


# What packs well: few bytes to look at.
PACKED_RECORDS = [record(NOON + i, b"GET /index.html 200", severity=9) for i in range(4)]
# The section of these, as `zstd -19 --no-check --single-thread` packed it.
REFERENCE = bytes.fromhex(
    "28b52ffd2068650100140219000009000013474554202f696e6465782e68746d6c20323030190101"
    "020203030300a0c600c435389d"
)


def reference(section):
    assert section == PACKED_SECTION, "REFERENCE is of other records"
    return REFERENCE


PACKED_SECTION = join(
    piece
    for index, one in enumerate(PACKED_RECORDS)
    for piece in record_pieces(index, index, one, "")
)


def accept_batches():
    grown = join(record_pieces(0, 0, RECORDS[0], ""))
    body = grown[1:] + b"\x09tail"
    padded = Batch([RECORDS[0]], 3, 1, 0, tail=with_length(body))
    ignorable = stored(PRODUCED, (1, 0, NOON + 1_000, 0), attributes=0xFF00)
    rebuilt = stored(PRODUCED, (1, 0, NOON + 1_000, 0), attributes=0x0040)
    holes = Batch(
        RECORDS,
        place=(1, 0, NOON + 1_000, 0),
        attributes=0x0040,
        deltas=[1, 4],
        severity=17,
        lowest_timestamp=NOON - 500,
        highest_timestamp=NOON + 9_000,
    )
    out = [
        {
            "name": "a record with a tail of a newer version",
            "kind": "batch",
            "fields": padded.fields(),
            "hex": padded.data.hex(),
        }
    ]
    lines = [record(NOON + i % 7, b"GET /index.html %d" % (i % 3)) for i in range(100)]
    runs = [record(NOON, b"=" * 700), record(NOON + 1, b"-" * 40), record(NOON, b"")]
    for name, records, codec in [
        ("a batch packed with lz4", PACKED_RECORDS, (LZ4, lz4_block)),
        ("a batch of 100 lines packed with lz4", lines, (LZ4, lz4_block)),
        ("a batch packed with lz4 as literals", RECORDS, (LZ4, lz4_literals)),
        ("a batch of long runs packed with lz4", runs, (LZ4, lz4_block)),
        ("a batch packed with zstd as it is", RECORDS, (ZSTD, zstd_raw)),
        ("a batch of long runs packed with zstd", runs, (ZSTD, zstd_runs)),
        (
            "a batch packed with zstd by the reference implementation",
            PACKED_RECORDS,
            (ZSTD, reference),
        ),
    ]:
        batch = Batch(records, 3, 1, 0, codec=codec)
        out.append(
            {"name": name, "kind": "batch", "fields": batch.fields(), "pieces": batch.pieces}
        )
    place = {
        "topic": "1",
        "base_offset": "0",
        "append_time": str(NOON + 1_000),
        "leader_epoch": "0",
    }
    in_place = (1, 0, NOON + 1_000, 0)
    packed = Batch(RECORDS, 3, 1, 0, in_place, codec=(LZ4, lz4_literals))
    out.append(
        {
            "name": "a stored batch packed with lz4",
            "kind": "stored_batch",
            "place": place,
            "fields": packed.fields(),
            "hex": packed.data.hex(),
        }
    )
    zstd = Batch(lines, 0, 0, 0, (1, 2, NOON + 1_500, 0), codec=(ZSTD, zstd_raw))
    plain = Batch([record(NOON + 9, b"last")], 0, 0, 0, (1, 102, NOON + 2_000, 0))
    rebuilt_packed = Batch(RECORDS, 3, 1, 0, in_place, codec=(LZ4 | 0x0040, lz4_literals))
    other = Batch([record(NOON + 9, b"third")], 0, 0, 0, place=(1, 4, NOON + 2_000, 0))
    for name, batches, ranges in [
        ("a delivery of everything", [STORED, other], [(0, 2), (4, 5)]),
        ("a delivery of a part of a batch", [STORED], [(1, 2)]),
        ("a delivery of one range over two batches", [STORED, other], [(1, 5)]),
        ("a delivery of two parts with a hole", [STORED, other], [(0, 1), (4, 5)]),
        ("a delivery of a rebuilt batch", [rebuilt], [(0, 2)]),
        ("a delivery of a rebuilt batch with holes", [holes], [(1, 2), (4, 5)]),
        ("a delivery of a batch with attributes that may be ignored", [ignorable], [(0, 2)]),
        ("a delivery without ranges", [STORED], []),
        ("a delivery of mixed codecs", [packed, zstd, plain], [(0, 103)]),
        ("a delivery from the middle of packed batches", [packed, zstd], [(1, 2), (50, 52)]),
        ("a delivery of a rebuilt batch that is packed", [rebuilt_packed], [(0, 2)]),
    ]:
        out.append(delivery(name, batches, ranges))
    return out


def delivery(name, batches, ranges):
    values = {
        **DELIVERED,
        "high_watermark": 5,
        "next": 5,
        "ranges": [{"from": a, "to": b, "deliveries": 0, "lease": 0} for a, b in ranges],
        "batches": batches,
    }
    records = []
    for batch in batches:
        for index, one in enumerate(batch.records):
            offset = batch.place[1] + batch.deltas[index]
            if any(a <= offset < b for a, b in ranges):
                records.append(
                    {"offset": str(offset), "append_time": str(batch.place[2]), **json_record(one)}
                )
    data = frame(0x30, 0, 5, join(encode_body("Delivered", values)))
    return {"name": name, "kind": "delivery", "topic": "1", "records": records, "hex": data.hex()}
