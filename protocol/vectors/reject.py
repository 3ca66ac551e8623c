"""Rejected entries: bytes that must be refused, with the error's name."""

import struct

from accept import delivery
from canonical import stored
from packing import LZ4, ZSTD, lz4_block, lz4_literals, zstd_raw, zstd_zeros
from story import LIMITS, NOON, PRODUCED, STORED
from wire import (
    Batch,
    U64_MAX,
    broker_preface,
    frame,
    join,
    record,
    record_pieces,
    varint,
    with_length,
)


def refused(name, kind, error, data, **more):
    return {"name": name, "kind": kind, **more, "error": error, "hex": data.hex()}


def reject():
    out = []
    for name, kind, data in [
        ("a number of more than 64 bits", "u64", b"\xff" * 9 + b"\x02"),
        ("a number of eleven bytes", "u64", b"\x80" * 10 + b"\x00"),
        ("a number that is cut short", "u64", b"\x80"),
        ("a number of more than 32 bits", "u32", b"\xff\xff\xff\xff\x10"),
        ("a number of six bytes", "u32", b"\x80\x80\x80\x80\x80\x00"),
        ("a boolean of 2", "boolean", b"\x02"),
        ("an option of 2", "option of u64", b"\x02\x00"),
        ("a string that is not UTF-8", "string", b"\x02\xc3\x28"),
        ("a string longer than its body", "string", b"\x04app"),
        ("bytes longer than any body", "bytes", b"\xff" * 9 + b"\x01"),
        ("a sequence with fewer elements than it counts", "sequence of string", b"\x02\x01a"),
        (
            "a sequence that counts more than any body holds",
            "sequence of string",
            b"\xff" * 9 + b"\x01\x01a",
        ),
        ("a sequence whose element is cut short", "sequence of string", b"\x01\x05a"),
    ]:
        out.append(refused(name, "field", "MALFORMED", data, type=kind))
    out += reject_frames() + reject_prefaces() + reject_batches()
    for text in (
        "",
        "-",
        "+5",
        "-1h",
        "5 s",
        "yesterday",
        "1x",
        str(U64_MAX + 1),
        "99999999999999d",
    ):
        out.append(
            {
                "name": f"the position {text!r}",
                "kind": "position_text",
                "text": text,
                "error": "INVALID_POSITION",
            }
        )
    for text in ("", ".hidden", "a b", "\u00e4", "a/b", "a\n", "*", "x" * 129):
        out.append(
            {
                "name": f"the name {text[:20]!r}",
                "kind": "topic_name",
                "text": text,
                "error": "INVALID_TOPIC_NAME",
            }
        )
    return out


def reject_frames():
    limit = LIMITS["frame_bytes"]
    size = b"\x01\x05"
    return [
        refused(
            "a frame of 4 GiB",
            "frame",
            "FRAME_TOO_LARGE",
            b"\xff\xff\xff\xff\x22\x00\x00\x00\x00\x05",
            limit=limit,
            correlation=5,
        ),
        refused(
            "a frame of 4 GiB of which only the length came",
            "frame",
            "FRAME_TOO_LARGE",
            b"\xff\xff\xff\xff",
            limit=limit,
            correlation=0,
        ),
        refused(
            "a frame of one byte over the limit",
            "frame",
            "FRAME_TOO_LARGE",
            struct.pack(">I", limit + 1) + b"\x22\x00\x00\x00\x00\x05",
            limit=limit,
            correlation=5,
        ),
        refused(
            "a frame shorter than its header",
            "frame",
            "BAD_FRAME",
            b"\x00\x00\x00\x05\x02\x00\x00\x00\x00\x05",
            limit=limit,
            correlation=0,
        ),
        refused("a frame of no bytes", "frame", "BAD_FRAME", bytes(4), limit=limit, correlation=0),
        refused(
            "an opcode that is not known", "request", "UNKNOWN_OPERATION", frame(0x7F, 0, 5, b"")
        ),
        refused("the opcode of no request", "request", "UNKNOWN_OPERATION", frame(0x00, 0, 5, b"")),
        refused(
            "an opcode between brokers", "request", "UNKNOWN_OPERATION", frame(0xC0, 0, 5, b"")
        ),
        refused("a notice from a client", "request", "UNKNOWN_OPERATION", frame(0xA0, 0, 5, b"")),
        refused(
            "a critical flag that is not known",
            "request",
            "UNKNOWN_FLAG",
            frame(0x44, 0x10, 5, size),
        ),
        refused(
            "the error flag in a request", "request", "UNKNOWN_FLAG", frame(0x44, 0x80, 5, size)
        ),
        refused(
            "a request whose number is cut short",
            "request",
            "MALFORMED",
            frame(0x44, 0, 5, b"\x01\x80"),
        ),
        refused(
            "a request whose name is not UTF-8",
            "request",
            "MALFORMED",
            frame(0x13, 0, 5, b"\x01\xff"),
        ),
        refused(
            "a sequence element that is malformed",
            "request",
            "MALFORMED",
            frame(0x10, 0, 5, b"\x01a\x01\x02\x05k\x00"),
        ),
        refused(
            "a batch longer than its frame",
            "request",
            "MALFORMED",
            frame(0x22, 0, 5, b"\x01\x00\x00\x00\xff\xff\xff\x03"),
        ),
        refused(
            "a cluster that is not 16 bytes",
            "answer",
            "MALFORMED",
            frame(0x01, 0, 5, b"\x00\x00\x0f" + bytes(15)),
        ),
    ]


def reject_prefaces():
    good = join(broker_preface(1, 1, 1, 0, bytes(16), 1, LIMITS))
    return [
        refused(
            "a client's preface with another magic",
            "client_preface",
            "BAD_PREFACE",
            b"\xd4LOX" + bytes(16),
        ),
        refused("a TLS greeting", "client_preface", "BAD_PREFACE", b"\x16\x03\x01"),
        refused(
            "a broker's preface with another magic",
            "broker_preface",
            "BAD_PREFACE",
            b"HTTP/1.1 400",
        ),
        refused(
            "a broker's preface that is too short",
            "broker_preface",
            "BAD_PREFACE",
            good[:4] + b"\x00\x3d" + good[6:67],
        ),
        refused(
            "a broker without a version in common",
            "broker_preface",
            "UNSUPPORTED_VERSION",
            join(broker_preface(0, 2, 3, 0, bytes(16), 1, LIMITS)),
        ),
        refused(
            "a broker that chose a version we did not offer",
            "broker_preface",
            "UNSUPPORTED_VERSION",
            join(broker_preface(2, 1, 2, 0, bytes(16), 1, LIMITS)),
        ),
    ]


def reject_batches():
    two = [record(1000, b"one", severity=9), record(1250, b"two")]
    limits = {"batch_limit": LIMITS["batch_bytes"], "record_limit": LIMITS["record_bytes"]}

    def bad(name, error, batch, **more):
        data = batch.data if isinstance(batch, Batch) else batch
        return refused(name, "batch", error, data, **{**limits, **more})

    good = Batch(two).data
    first, second = record_pieces(0, 0, two[0], ""), record_pieces(1, 250, two[1], "")
    wrong_delta = join(first) + join(record_pieces(0, 250, two[1], ""))
    header = {**two[0], "headers": [("ab", b"")]}
    not_utf8 = join(record_pieces(0, 0, header, "")).replace(b"\x02ab", b"\x02\xc3\x28")
    no_lowest = join(record_pieces(0, 1, two[0], "")) + join(second)
    out = [
        bad("a batch of nothing", "BATCH_CORRUPT", b""),
        bad("a batch shorter than its head", "BATCH_CORRUPT", good[:95]),
        bad("a batch that is cut short", "BATCH_CORRUPT", good[:-1]),
        bad("a batch with a byte too many", "BATCH_CORRUPT", good + b"\x00"),
        bad("a batch with a wrong length", "BATCH_CORRUPT", Batch(two, length=len(good) + 1)),
        bad("a batch with a wrong CRC", "BATCH_CORRUPT", Batch(two, producer_crc=1)),
        bad("a batch with a flipped bit", "BATCH_CORRUPT", good[:-1] + bytes([good[-1] ^ 1])),
        bad("a batch without records", "BATCH_CORRUPT", Batch([])),
        bad("a batch that counts too many records", "BATCH_CORRUPT", Batch(two, count=3)),
        bad("a batch that counts too few records", "BATCH_CORRUPT", Batch(two, count=1)),
        bad("a batch with a wrong severity", "BATCH_CORRUPT", Batch(two, severity=10)),
        bad("a batch with wrong content bytes", "BATCH_CORRUPT", Batch(two, content_bytes=7)),
        bad(
            "a batch with a wrong lowest timestamp",
            "BATCH_CORRUPT",
            Batch(two, lowest_timestamp=999),
        ),
        bad(
            "a batch with a wrong highest timestamp",
            "BATCH_CORRUPT",
            Batch(two, highest_timestamp=1251),
        ),
        bad(
            "a batch in which no record has the lowest timestamp",
            "BATCH_CORRUPT",
            Batch(two, tail=no_lowest, lowest_timestamp=999, highest_timestamp=1249),
        ),
        bad(
            "a batch whose times exceed 64 bits",
            "BATCH_CORRUPT",
            Batch(two, lowest_timestamp=U64_MAX, highest_timestamp=249),
        ),
        bad(
            "a batch whose offset deltas do not count up",
            "BATCH_CORRUPT",
            Batch(two, tail=wrong_delta),
        ),
        bad(
            "a record longer than its batch",
            "BATCH_CORRUPT",
            Batch(two, tail=b"\x7f" + join(first)[1:] + join(second)),
        ),
        bad(
            "a record that ends within its fields",
            "BATCH_CORRUPT",
            Batch(two, tail=b"\x03\x00\x00\x00" + join(second)),
        ),
        bad(
            "a record with more headers than bytes",
            "BATCH_CORRUPT",
            Batch([two[0]], tail=with_length(b"\x00\x00\x09\x00" + varint(U64_MAX) + b"\x03one")),
        ),
        bad("a severity above 24", "BATCH_CORRUPT", Batch([record(0, b"x", severity=25)])),
        bad("a header's name that is not UTF-8", "BATCH_CORRUPT", Batch([header], tail=not_utf8)),
        bad("a batch over the limit", "BATCH_TOO_LARGE", Batch(two), batch_limit=len(good) - 1),
        bad("a record over the limit", "RECORD_TOO_LARGE", Batch(two), record_limit=2),
        bad("a layout of another version", "NOT_SUPPORTED", Batch(two, layout=2)),
        bad("a codec of a newer version", "NOT_SUPPORTED", Batch(two, attributes=0x0003)),
        bad("a rebuilt batch from a producer", "NOT_SUPPORTED", Batch(two, attributes=0x0040)),
        bad(
            "an attribute without a meaning from a producer",
            "NOT_SUPPORTED",
            Batch(two, attributes=0x8000),
        ),
        bad(
            "a reserved byte set in the broker's part",
            "NOT_SUPPORTED",
            Batch(two, reserved_1=b"\x00\x00\x01"),
        ),
        bad(
            "a reserved byte set in the producer's part", "NOT_SUPPORTED", Batch(two, reserved_2=1)
        ),
    ]
    for name, error, batch in reject_packed():
        out.append(bad(name, error, batch))
    place = (1, 0, NOON, 0)
    for name, error, topic, batch in [
        ("a stored batch of another topic", "BATCH_CORRUPT", 2, Batch(two, place=place)),
        (
            "a stored batch with a wrong broker's CRC",
            "BATCH_CORRUPT",
            1,
            Batch(two, place=place, broker_crc=1),
        ),
        (
            "a stored batch with a wrong producer's CRC",
            "BATCH_CORRUPT",
            1,
            Batch(two, place=place, producer_crc=1),
        ),
        ("a stored batch that is cut short", "BATCH_CORRUPT", 1, Batch(two, place=place).data[:-1]),
        ("a stored batch of another layout", "NOT_SUPPORTED", 1, Batch(two, place=place, layout=2)),
    ]:
        data = batch.data if isinstance(batch, Batch) else batch
        out.append(refused(name, "stored_batch", error, data, topic=str(topic)))
    for name, error, batches in [
        ("a delivery whose batches overlap", "BATCH_CORRUPT", [STORED, STORED]),
        (
            "a delivery of a batch of another topic",
            "BATCH_CORRUPT",
            [stored(PRODUCED, (2, 0, NOON, 0))],
        ),
        (
            "a delivery of a batch that says it is packed and is not",
            "BATCH_CORRUPT",
            [stored(PRODUCED, place, attributes=0x0002)],
        ),
        (
            "a delivery of a bomb",
            "BATCH_TOO_LARGE",
            [packed(ZSTD, lambda _: zstd_zeros(64), place=place, **LARGE_HEAD)],
        ),
        (
            "a delivery of a packed batch that counts too many records",
            "BATCH_CORRUPT",
            [packed(LZ4, lz4_literals, place=place, count=3)],
        ),
        (
            "a delivery of a packed batch with a codec of a newer version",
            "NOT_SUPPORTED",
            [stored(PRODUCED, place, attributes=0x0004)],
        ),
        (
            "a delivery of a control batch",
            "NOT_SUPPORTED",
            [stored(PRODUCED, place, attributes=0x0010)],
        ),
        (
            "a delivery of an encrypted batch",
            "NOT_SUPPORTED",
            [stored(PRODUCED, place, attributes=0x0020)],
        ),
        (
            "a delivery of a batch with a broken record",
            "BATCH_CORRUPT",
            [Batch(two, place=place, tail=b"\x7f")],
        ),
        (
            "a delivery of a batch that counts too many records",
            "BATCH_CORRUPT",
            [Batch(two, place=place, count=3)],
        ),
    ]:
        entry = delivery(name, batches, [(0, 9)])
        del entry["records"]
        out.append({**entry, "error": error})
    return out


# As much as the records of a batch may unpack to.
LARGE = 4 << 20
# A head that allows all of it.
LARGE_HEAD = {"count": 60_000, "content_bytes": LARGE}


def packed(number, pack, **forged):
    two = [record(1000, b"one", severity=9), record(1250, b"two")]
    return Batch(two, codec=(number, pack), **forged)


def reject_packed():
    """Batches as produced whose records are packed, and wrong in one thing."""
    corrupt = "BATCH_CORRUPT"
    out = [
        ("a bomb of zstd", "BATCH_TOO_LARGE", packed(ZSTD, lambda _: zstd_zeros(64), **LARGE_HEAD)),
        (
            "a bomb of lz4",
            "BATCH_TOO_LARGE",
            packed(LZ4, lambda _: lz4_block(bytes(5 << 20)), **LARGE_HEAD),
        ),
        (
            "a packed batch with more content than may be unpacked",
            "BATCH_TOO_LARGE",
            packed(ZSTD, zstd_raw, content_bytes=LARGE + 1),
        ),
        (
            "zstd that unpacks to more than the head allows",
            corrupt,
            packed(ZSTD, lambda _: zstd_zeros(1)),
        ),
        (
            "lz4 that unpacks to more than the head allows",
            corrupt,
            packed(LZ4, lambda _: lz4_block(bytes(10_000))),
        ),
        ("zstd of zeros", corrupt, packed(ZSTD, lambda _: zstd_zeros(1), **LARGE_HEAD)),
        (
            "two frames of zstd",
            corrupt,
            packed(ZSTD, lambda it: zstd_raw(it[:20]) + zstd_raw(it[20:])),
        ),
        ("a packed batch without a section", corrupt, packed(LZ4, lambda _: b"")),
        ("a batch that says lz4 and is not packed", corrupt, packed(LZ4, lambda it: it)),
        ("a batch that says lz4 and is zstd", corrupt, packed(LZ4, zstd_raw)),
        ("a batch that says zstd and is lz4", corrupt, packed(ZSTD, lz4_literals)),
    ]
    for what, number, pack in [("lz4", LZ4, lz4_literals), ("zstd", ZSTD, zstd_raw)]:
        out += [
            (
                f"a batch of {what} that is cut short",
                corrupt,
                packed(number, lambda it, pack=pack: pack(it)[:-1]),
            ),
            (
                f"a batch of {what} with a byte too many",
                corrupt,
                packed(number, lambda it, pack=pack: pack(it) + b"\x00"),
            ),
            (
                f"a batch of {what} that counts too many records",
                corrupt,
                packed(number, pack, count=3),
            ),
            (
                f"a batch of {what} with wrong content bytes",
                corrupt,
                packed(number, pack, content_bytes=7),
            ),
            (
                f"a batch of {what} with a flipped bit",
                corrupt,
                packed(number, lambda it, pack=pack: flipped(pack(it))),
            ),
        ]
    return out


def flipped(data):
    """The same, with the highest bit of its first byte turned."""
    return bytes([data[0] ^ 0x80]) + data[1:]
