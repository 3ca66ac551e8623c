#!/usr/bin/env python3
"""Writes the golden vectors of the logdrive protocol.

A second implementation, written from PROTOCOL.md and nothing else: its own CRC-32C, its own
varints, its own encoder. It never calls the Rust crate, so that the two can be held against each
other. Its neighbours are the JSON files beside it and the tests that run them in every language.

    generate.py              write canonical.json, accept.json and reject.json
    generate.py --check      write nothing; fail if a file differs from what would be written
    generate.py --show NAME  print one canonical frame as PROTOCOL.md annotates it
    generate.py --list       names of all canonical entries
"""

import json
import pathlib
import struct
import sys

HERE = pathlib.Path(__file__).resolve().parent

MAGIC = bytes.fromhex("d44c4f47")
FLAG_ERROR = 0x80
U32_MAX = 2**32 - 1
U64_MAX = 2**64 - 1

# ---------------------------------------------------------------------------------------------
# CRC-32C (Castagnoli), reflected, table-driven.


def crc_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


CRC_TABLE = crc_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC_TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


assert crc32c(b"123456789") == 0xE3069283

# ---------------------------------------------------------------------------------------------
# The fields of every body, in order (PROTOCOL.md, "Operations", "Notices", "Errors").

BODIES = {
    "Error": "code:u32 message:string hint:string first:u64 second:u64 address:string",
    "Setting": "key:string value:string",
    "CreateTopic": "name:string settings:Setting* if_not_exists:boolean",
    "TopicCreated": "topic:u64 created:boolean",
    "DeleteTopic": "topic:u64",
    "TopicDeleted": "",
    "ListTopics": "glob:string after:string limit:u32",
    "TopicsListed": "topics:TopicSummary* more:boolean",
    "TopicSummary": "name:string topic:u64 log_start:u64 high_watermark:u64 records:u64 bytes:u64",
    "DescribeTopic": "name:string after:string limit:u32",
    "TopicDescribed": "topic:u64 name:string settings:Setting* created_at:u64 log_start:u64 "
    "high_watermark:u64 records:u64 bytes:u64 last_append_time:u64 producers:u32 "
    "consumer_count:u32 consumers:ConsumerSummary* more:boolean",
    "ConsumerSummary": "name:string consumer:u64 cursor:u64 records:u64 bytes:u64 workers:u32",
    "RegisterProducer": "topic:string name:string producer:u64 instance:u64 create_topic:boolean",
    "ProducerRegistered": "topic:u64 producer:u64 epoch:u32 next_sequence:u64 topic_created:boolean",
    "UnregisterProducer": "topic:u64 producer:u64 epoch:u32",
    "ProducerUnregistered": "",
    "Produce": "topic:u64 leader_epoch:u64 ack:u8 not_before:u64 batch:bytes",
    "Produced": "base_offset:u64 append_time:u64 durability:u8 leader_epoch:u64",
    "Fetch": "topic:u64 from:Position max_records:u32 max_bytes:u32 max_wait_ms:u32 "
    "leader_epoch:u64",
    "Delivered": "status:u8 leader_epoch:u64 high_watermark:u64 log_start:u64 next:u64 gaps:Gap* "
    "ranges:Range* batches:bytes*",
    "Range": "from:u64 to:u64 deliveries:u32 lease:u64",
    "Gap": "from:u64 to:u64 records:u64 bytes:u64 first_time:u64 last_time:u64 reason:u8",
    "RegisterConsumer": "topic:string name:string from:Position settings:Setting* create:boolean",
    "ConsumerRegistered": "topic:u64 consumer:u64 cursor:u64 created:boolean",
    "UnregisterConsumer": "topic:u64 consumer:u64",
    "ConsumerUnregistered": "",
    "Consume": "topic:u64 consumer:u64 worker:u64 sequence:u64 max_records:u32 max_bytes:u32 "
    "max_wait_ms:u32 lease_ms:u32 leader_epoch:u64",
    "Seek": "topic:u64 consumer:u64 to:Position",
    "Sought": "cursor:u64",
    "Size": "topic:u64 consumer:u64",
    "Measured": "records:u64 bytes:u64 oldest_age:u64 leased:u64 delayed:u64 gaps:u64",
    "Hello": "client:string version:string",
    "Greeted": "broker:string version:string cluster:bytes16 node:u64 started_at:u64 "
    "limits:Setting*",
    "Ping": "",
    "Pinged": "state:u8 now:u64 free_bytes:u64",
    "Metadata": "topics:string*",
    "Located": "nodes:Node* topics:TopicPlace*",
    "Node": "id:u64 address:string",
    "TopicPlace": "name:string id:u64 leader:u64 leader_epoch:u64",
    "Cancel": "topic:u64 correlation:u32",
    "CancelPassed": "",
    "Stats": "topic:string",
    "Counted": "counters:Counter*",
    "Counter": "name:string value:u64",
    "GoingAway": "deadline_ms:u32 reason:string",
    "StateChanged": "state:u8 topic:u64",
}
BODIES = {
    name: [tuple(field.split(":")) for field in fields.split()]
    for name, fields in BODIES.items()
}

OPERATIONS = {
    "Hello": (0x01, "Greeted"),
    "Ping": (0x02, "Pinged"),
    "Metadata": (0x03, "Located"),
    "Cancel": (0x04, "CancelPassed"),
    "Stats": (0x06, "Counted"),
    "CreateTopic": (0x10, "TopicCreated"),
    "DeleteTopic": (0x11, "TopicDeleted"),
    "ListTopics": (0x12, "TopicsListed"),
    "DescribeTopic": (0x13, "TopicDescribed"),
    "RegisterProducer": (0x20, "ProducerRegistered"),
    "UnregisterProducer": (0x21, "ProducerUnregistered"),
    "Produce": (0x22, "Produced"),
    "Fetch": (0x30, "Delivered"),
    "RegisterConsumer": (0x40, "ConsumerRegistered"),
    "UnregisterConsumer": (0x41, "ConsumerUnregistered"),
    "Consume": (0x42, "Delivered"),
    "Seek": (0x43, "Sought"),
    "Size": (0x44, "Measured"),
}
NOTICES = {"GoingAway": 0xA0, "StateChanged": 0xA1}

# ---------------------------------------------------------------------------------------------
# Encoding. A piece is (bytes, path, value as the document shows it); a path of None is shown as
# a remark that no test compares.


def varint(number):
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def with_length(data):
    return varint(len(data)) + data


def quoted(text):
    return json.dumps(text, ensure_ascii=False)


def shown_bytes(data):
    return quoted(data.decode()) if data.isascii() and data.decode().isprintable() else "x:" + data.hex()


def join(pieces):
    return b"".join(piece[0] for piece in pieces)


def encode_value(kind, value, path):
    """Pieces of one field; `kind` is a type of PROTOCOL.md, `X*` a sequence of X."""
    if kind.endswith("*"):
        pieces = [(varint(len(value)), path, str(len(value)))]
        for index, element in enumerate(value):
            pieces += encode_element(kind[:-1], element, f"{path}[{index}]")
        return pieces
    if kind == "u8":
        return [(bytes([value]), path, str(value))]
    if kind in ("u32", "u64"):
        return [(varint(value), path, str(value))]
    if kind == "boolean":
        return [(b"\x01" if value else b"\x00", path, "true" if value else "false")]
    if kind == "string":
        return [(with_length(value.encode()), path, quoted(value))]
    if kind == "bytes16":
        assert len(value) == 16
        return [(with_length(value), path, "x:" + value.hex())]
    if kind == "bytes":
        return encode_bytes(value, path)
    if kind == "Position":
        return [
            (bytes([value[0]]), path + ".kind", str(value[0])),
            (varint(value[1]), path + ".value", str(value[1])),
        ]
    raise ValueError(kind)


def encode_bytes(value, path):
    if isinstance(value, Batch):
        inner = [(data, f"{path}.{name}", shown) for data, name, shown in value.pieces]
        return [(varint(len(value.data)), path, f"{len(value.data)} bytes")] + inner
    return [(with_length(value), path, shown_bytes(value))]


def encode_element(kind, value, path):
    """An element of a sequence: its bytes stand behind their own length."""
    if kind in ("string", "bytes"):
        return encode_value(kind, value, path)
    pieces = encode_body(kind, value, path + ".")
    length = len(join(pieces))
    return [(varint(length), path, f"{length} bytes")] + pieces


def encode_body(name, values, prefix=""):
    assert set(values) == {field for field, _ in BODIES[name]}, (name, values)
    pieces = []
    for field, kind in BODIES[name]:
        pieces += encode_value(kind, values[field], prefix + field)
    return pieces


def frame_pieces(opcode, flags, correlation, body):
    length = 6 + len(join(body))
    return [
        (struct.pack(">I", length), "length", str(length)),
        (bytes([opcode]), "opcode", f"0x{opcode:02x}"),
        (bytes([flags]), "flags", f"0x{flags:02x}"),
        (struct.pack(">I", correlation), "correlation", str(correlation)),
    ] + body


def frame(opcode, flags, correlation, body):
    return join(frame_pieces(opcode, flags, correlation, [(body, None, "")]))


class Batch:
    """A record batch, as produced or (with `place`) as stored."""

    def __init__(self, records, producer=0, epoch=0, sequence=0, place=None, **forged):
        self.records, self.producer, self.epoch = records, producer, epoch
        self.sequence, self.place = sequence, place
        times = [record["timestamp"] for record in records]
        lowest, highest = min(times, default=0), max(times, default=0)
        tail = []
        for index, record in enumerate(records):
            tail += record_pieces(index, record["timestamp"] - lowest, record, f"records[{index}]")
        content = sum(content_bytes(record) for record in records)
        head = {
            "attributes": 0,
            "severity": max((record["severity"] for record in records), default=0),
            "reserved_2": 0,
            "count": len(records),
            "lowest_timestamp": lowest,
            "highest_timestamp": highest,
            "content_bytes": content,
            "producer_epoch": epoch,
            "producer": producer,
            "sequence": sequence,
        }
        head.update({key: value for key, value in forged.items() if key in head})
        if "tail" in forged:
            tail = [(forged["tail"], None, "")]
        signed = fixed(head, ">HBBIQQIIQQ") + tail
        length = forged.get("length", 48 + len(join(signed)))
        crc = forged.get("producer_crc", crc32c(join(signed)))
        topic, base_offset, append_time, leader_epoch = place or (0, 0, 0, 0)
        broker = {
            "length": length,
            "topic": forged.get("topic", topic),
            "base_offset": base_offset,
            "append_time": append_time,
            "leader_epoch": leader_epoch,
            "producer_crc": crc,
            "layout": forged.get("layout", 1),
        }
        covered = fixed(broker, ">IQQQQIB")
        covered.append((forged.get("reserved_1", bytes(3)), "reserved_1", "0"))
        broker_crc = forged.get("broker_crc", crc32c(join(covered)) if place else 0)
        self.pieces = fixed({"broker_crc": broker_crc}, ">I") + covered + signed
        self.data = join(self.pieces)

    def fields(self):
        return {
            "producer": str(self.producer),
            "epoch": self.epoch,
            "sequence": str(self.sequence),
            "records": [json_record(record) for record in self.records],
        }


def fixed(values, layout):
    pieces = []
    for (name, value), code in zip(values.items(), layout[1:], strict=True):
        shown = f"0x{value:08x}" if name.endswith("crc") else str(value)
        shown = f"0x{value:04x}" if name == "attributes" else shown
        pieces.append((struct.pack(">" + code, value), name, shown))
    return pieces


def content_bytes(record):
    headers = sum(len(name.encode()) + len(value) for name, value in record["headers"])
    return len(record["key"] or b"") + headers + len(record["value"])


def record_pieces(offset_delta, timestamp_delta, record, path):
    key = record["key"]
    pieces = [
        (varint(offset_delta), "offset_delta", str(offset_delta)),
        (varint(timestamp_delta), "timestamp_delta", str(timestamp_delta)),
        (bytes([record["severity"]]), "severity", str(record["severity"])),
        (b"\x00", "key", "none")
        if key is None
        else (varint(len(key) + 1) + key, "key", shown_bytes(key)),
        (varint(len(record["headers"])), "headers", str(len(record["headers"]))),
    ]
    for index, (name, value) in enumerate(record["headers"]):
        pieces.append((with_length(name.encode()), f"headers[{index}].name", quoted(name)))
        pieces.append((with_length(value), f"headers[{index}].value", shown_bytes(value)))
    pieces.append((with_length(record["value"]), "value", shown_bytes(record["value"])))
    length = len(join(pieces))
    inner = [(data, f"{path}.{name}", shown) for data, name, shown in pieces]
    return [(varint(length), path, f"{length} bytes")] + inner


def record(timestamp, value, severity=0, key=None, headers=()):
    return {
        "timestamp": timestamp,
        "severity": severity,
        "key": key,
        "headers": list(headers),
        "value": value,
    }


def json_record(record):
    return {
        "timestamp": str(record["timestamp"]),
        "severity": record["severity"],
        "key": None if record["key"] is None else record["key"].hex(),
        "headers": [{"name": name, "value": value.hex()} for name, value in record["headers"]],
        "value": record["value"].hex(),
    }


def json_value(kind, value):
    if kind.endswith("*"):
        return [json_value(kind[:-1], element) for element in value]
    if kind == "u64":
        return str(value)
    if kind in ("bytes", "bytes16"):
        return (value.data if isinstance(value, Batch) else value).hex()
    if kind == "Position":
        return {"kind": value[0], "value": str(value[1])}
    if kind in BODIES:
        return json_body(kind, value)
    return value


def json_body(name, values):
    return {field: json_value(kind, values[field]) for field, kind in BODIES[name]}


# ---------------------------------------------------------------------------------------------
# Prefaces.

LIMITS = {
    "frame_bytes": 8 << 20,
    "window_bytes": 32 << 20,
    "batch_bytes": 4 << 20,
    "record_bytes": 1 << 20,
    "batches_in_flight": 64,
    "wait_ms": 300_000,
}


def client_preface(lowest, highest, features, reserved=0):
    return [
        (MAGIC, "magic", "x:" + MAGIC.hex()),
        (struct.pack(">H", lowest), "lowest", str(lowest)),
        (struct.pack(">H", highest), "highest", str(highest)),
        (struct.pack(">Q", features), "features", str(features)),
        (struct.pack(">I", reserved), "reserved", str(reserved)),
    ]


def broker_preface(version, lowest, highest, features, cluster, node, limits, tail=b""):
    pieces = [
        (struct.pack(">H", version), "version", str(version)),
        (struct.pack(">H", lowest), "lowest", str(lowest)),
        (struct.pack(">H", highest), "highest", str(highest)),
        (struct.pack(">Q", features), "features", str(features)),
        (cluster, "cluster", "x:" + cluster.hex()),
        (struct.pack(">Q", node), "node", str(node)),
    ]
    pieces += [(struct.pack(">I", value), name, str(value)) for name, value in limits.items()]
    if tail:
        pieces.append((tail, None, ""))
    length = len(join(pieces))
    return [
        (MAGIC, "magic", "x:" + MAGIC.hex()),
        (struct.pack(">H", length), "length", str(length)),
    ] + pieces


# ---------------------------------------------------------------------------------------------
# The values of the examples. They tell one story, which the text transcripts of PROTOCOL.md tell
# too: topic `app` is 1, producer 3 sends two records, consumer 5 takes them.

NOON = 1_767_268_800_000_000  # 2026-01-01T12:00:00Z
RECORDS = [
    record(NOON, b"hello", severity=9, key=b"web", headers=[("host", b"web-1")]),
    record(NOON + 250, b"again"),
]
PRODUCED = Batch(RECORDS, producer=3, epoch=1, sequence=0)
STORED = Batch(RECORDS, producer=3, epoch=1, sequence=0, place=(1, 0, NOON + 1_000, 0))
SETTING = {"key": "retention.age", "value": "7d"}
LIMIT_SETTINGS = [{"key": "frame_bytes", "value": "8388608"}]

REQUESTS = {
    "CreateTopic": {"name": "app", "settings": [], "if_not_exists": False},
    "DeleteTopic": {"topic": 2},
    "ListTopics": {"glob": "a*", "after": "", "limit": 0},
    "DescribeTopic": {"name": "app", "after": "", "limit": 0},
    "RegisterProducer": {
        "topic": "app",
        "name": "",
        "producer": 0,
        "instance": 81985529216486895,
        "create_topic": True,
    },
    "UnregisterProducer": {"topic": 1, "producer": 3, "epoch": 1},
    "Produce": {"topic": 1, "leader_epoch": 0, "ack": 0, "not_before": 0, "batch": PRODUCED},
    "Fetch": {
        "topic": 1,
        "from": (0, 0),
        "max_records": 100,
        "max_bytes": 0,
        "max_wait_ms": 5000,
        "leader_epoch": 0,
    },
    "RegisterConsumer": {
        "topic": "app",
        "name": "c1",
        "from": (0, 0),
        "settings": [],
        "create": True,
    },
    "UnregisterConsumer": {"topic": 1, "consumer": 5},
    "Consume": {
        "topic": 1,
        "consumer": 5,
        "worker": 1311768467463790320,
        "sequence": 1,
        "max_records": 1,
        "max_bytes": 0,
        "max_wait_ms": 0,
        "lease_ms": 0,
        "leader_epoch": 0,
    },
    "Seek": {"topic": 1, "consumer": 5, "to": (2, 0)},
    "Size": {"topic": 1, "consumer": 5},
    "Hello": {"client": "example", "version": "1.0"},
    "Ping": {},
    "Metadata": {"topics": ["app", "nowhere"]},
    "Cancel": {"topic": 1, "correlation": 7},
    "Stats": {"topic": "app"},
}
DELIVERED = {
    "status": 0,
    "leader_epoch": 0,
    "high_watermark": 2,
    "log_start": 0,
    "next": 2,
    "gaps": [],
    "ranges": [{"from": 0, "to": 2, "deliveries": 0, "lease": 0}],
    "batches": [STORED],
}
ANSWERS = {
    "CreateTopic": {"topic": 1, "created": True},
    "DeleteTopic": {},
    "ListTopics": {
        "topics": [
            {
                "name": "app",
                "topic": 1,
                "log_start": 0,
                "high_watermark": 2,
                "records": 2,
                "bytes": 22,
            }
        ],
        "more": False,
    },
    "DescribeTopic": {
        "topic": 1,
        "name": "app",
        "settings": [],
        "created_at": NOON - 60_000_000,
        "log_start": 0,
        "high_watermark": 2,
        "records": 2,
        "bytes": 22,
        "last_append_time": NOON + 1_000,
        "producers": 1,
        "consumer_count": 1,
        "consumers": [
            {"name": "c1", "consumer": 5, "cursor": 1, "records": 1, "bytes": 5, "workers": 1}
        ],
        "more": False,
    },
    "RegisterProducer": {
        "topic": 1,
        "producer": 3,
        "epoch": 1,
        "next_sequence": 0,
        "topic_created": False,
    },
    "UnregisterProducer": {},
    "Produce": {"base_offset": 0, "append_time": NOON + 1_000, "durability": 0, "leader_epoch": 0},
    "Fetch": DELIVERED,
    "RegisterConsumer": {"topic": 1, "consumer": 5, "cursor": 0, "created": True},
    "UnregisterConsumer": {},
    "Consume": {
        **DELIVERED,
        "next": 1,
        "ranges": [{"from": 0, "to": 1, "deliveries": 0, "lease": 0}],
    },
    "Seek": {"cursor": 0},
    "Size": {
        "records": 2,
        "bytes": 22,
        "oldest_age": 3_000_000,
        "leased": 0,
        "delayed": 0,
        "gaps": 0,
    },
    "Hello": {
        "broker": "logdrive",
        "version": "0.1.0",
        "cluster": bytes(16),
        "node": 1,
        "started_at": NOON - 3_600_000_000,
        "limits": LIMIT_SETTINGS,
    },
    "Ping": {"state": 0, "now": NOON, "free_bytes": 50_000_000_000},
    "Metadata": {
        "nodes": [{"id": 1, "address": "127.0.0.1:7440"}],
        "topics": [
            {"name": "app", "id": 1, "leader": 1, "leader_epoch": 0},
            {"name": "nowhere", "id": 0, "leader": 0, "leader_epoch": 0},
        ],
    },
    "Cancel": {},
    "Stats": {"counters": [{"name": "records_produced", "value": 2}]},
}
ERRORS = {
    "unknown operation": (
        0x7F,
        {
            "code": 2,
            "message": "no operation has opcode 0x7f",
            "hint": "",
            "first": 0,
            "second": 0,
            "address": "",
        },
    ),
    "out of sequence": (
        0x22,
        {
            "code": 32,
            "message": "sequence 4 does not follow 1",
            "hint": "resend from 2",
            "first": 2,
            "second": 0,
            "address": "",
        },
    ),
    "not leader": (
        0x30,
        {
            "code": 80,
            "message": "node 2 leads this topic",
            "hint": "reconnect there",
            "first": 0,
            "second": 0,
            "address": "10.0.0.2:7440",
        },
    ),
    "data damaged": (
        0x42,
        {
            "code": 61,
            "message": "offsets 10 to 19 cannot be read",
            "hint": "seek to 20 to go on",
            "first": 10,
            "second": 20,
            "address": "",
        },
    ),
    "a number of a newer version": (
        0x22,
        {"code": 9999, "message": "new", "hint": "", "first": 1, "second": 2, "address": ""},
    ),
}
NOTICE_VALUES = {
    "GoingAway": {"deadline_ms": 2000, "reason": "the broker is stopping"},
    "StateChanged": {"state": 1, "topic": 0},
}
POSITIONS = {
    "earliest": (0, 0),
    "latest": (1, 0),
    "offset": (2, 1234),
    "last": (3, 100),
    "time": (4, NOON),
    "ago": (5, 5_400_000_000),
}


def extreme(kind):
    """A value of a type at the upper end of its range."""
    if kind.endswith("*"):
        return [extreme(kind[:-1])] * 2
    plain = {
        "u8": 255,
        "u32": U32_MAX,
        "u64": U64_MAX,
        "boolean": True,
        "string": "a\u00e4\u20ac\U0001f600",
        "bytes": bytes(range(256)),
        "bytes16": bytes(range(16)),
        "Position": (2, U64_MAX),
    }
    return plain[kind] if kind in plain else {f: extreme(k) for f, k in BODIES[kind]}


def zero(kind):
    if kind.endswith("*"):
        return []
    plain = {
        "u8": 0,
        "u32": 0,
        "u64": 0,
        "boolean": False,
        "string": "",
        "bytes": b"",
        "bytes16": bytes(16),
        "Position": (0, 0),
    }
    return plain[kind] if kind in plain else {f: zero(k) for f, k in BODIES[kind]}


# ---------------------------------------------------------------------------------------------
# Canonical: encoding the fields gives the bytes, decoding the bytes gives the fields.


def body_entry(entry, name, kind, body, opcode, flags, correlation, values):
    pieces = frame_pieces(opcode, flags, correlation, encode_body(body, values))
    fields = json_body(body, values)
    return {
        "name": name,
        "kind": kind,
        **entry,
        "opcode": opcode,
        "correlation": correlation,
        "fields": fields,
        "pieces": pieces,
    }


def field_entries():
    """Single fields, by the rules of the section on bodies."""
    out = []
    numbers = [0, 1, 127, 128, 300, 16383, 16384, U32_MAX, 2**53 - 1, U64_MAX]
    for number in numbers:
        out.append(field_entry(f"u64 {number}", "u64", str(number), varint(number)))
    for number in (0, 200, 255):
        out.append(field_entry(f"u8 {number}", "u8", number, bytes([number])))
    for number in (0, 128, U32_MAX):
        out.append(field_entry(f"u32 {number}", "u32", number, varint(number)))
    out.append(field_entry("boolean false", "boolean", False, b"\x00"))
    out.append(field_entry("boolean true", "boolean", True, b"\x01"))
    for text in ("", "app", "\u00e4\u20ac\U0001f600", "x" * 200):
        shown = text if len(text) < 20 else "of 200 bytes"
        out.append(field_entry(f"string {shown}", "string", text, with_length(text.encode())))
    for data in (b"", b"\x00\xff", bytes(range(130))):
        out.append(field_entry(f"bytes of {len(data)}", "bytes", data.hex(), with_length(data)))
    out.append(field_entry("option none", "option of u64", None, b"\x00"))
    out.append(field_entry("option some", "option of u64", "300", b"\x01" + varint(300)))
    texts = ["a", "", "bc"]
    data = varint(3) + b"".join(with_length(text.encode()) for text in texts)
    out.append(field_entry("sequence of strings", "sequence of string", texts, data))
    out.append(field_entry("sequence of none", "sequence of string", [], b"\x00"))
    return out


def field_entry(name, kind, value, data):
    return {"name": name, "kind": "field", "type": kind, "value": value, "hex": data.hex()}


def preface_entries():
    out = []
    for name, lowest, highest, features in [
        ("client preface", 1, 1, 0),
        ("client preface of a range", 1, 7, U64_MAX),
    ]:
        pieces = client_preface(lowest, highest, features)
        fields = {"lowest": lowest, "highest": highest, "features": str(features)}
        out.append({"name": name, "kind": "client_preface", "fields": fields, "pieces": pieces})
    for name, args in [
        ("broker preface", (1, 1, 1, 0, bytes(16), 1, LIMITS)),
        (
            "broker preface of a cluster",
            (1, 1, 3, 5, bytes(range(16)), 9, dict.fromkeys(LIMITS, U32_MAX)),
        ),
    ]:
        pieces = broker_preface(*args)
        out.append(
            {"name": name, "kind": "broker_preface", "fields": broker_fields(*args), "pieces": pieces}
        )
    return out


def broker_fields(version, lowest, highest, features, cluster, node, limits, tail=b""):
    return {
        "version": version,
        "lowest": lowest,
        "highest": highest,
        "features": str(features),
        "cluster": cluster.hex(),
        "node": str(node),
        **limits,
    }


def batch_entry(name, batch):
    return {"name": name, "kind": "batch", "fields": batch.fields(), "pieces": batch.pieces}


def batch_entries():
    plain = Batch([record(0, b"")])
    late_first = Batch([record(500, b"late"), record(200, b"early")], 7, 2, 40)
    extremes = Batch(
        [
            record(
                2**53 - 1,
                bytes(range(256)),
                severity=24,
                key=b"",
                headers=[("", b""), ("\u00e4", b"\x00\xff"), ("k" * 130, b"v" * 200)],
            ),
            record(0, b"x" * 300, severity=1, key=b"k" * 127),
        ],
        U64_MAX,
        U32_MAX,
        U64_MAX - 1,
    )
    many = Batch([record(NOON + i % 7, b"line %d" % i) for i in range(130)], 3, 1, 1000)
    out = [
        batch_entry("batch", PRODUCED),
        batch_entry("batch of one empty record without a producer", plain),
        batch_entry("batch whose first record is not the oldest", late_first),
        batch_entry("batch at the ends of all ranges", extremes),
        batch_entry("batch of 130 records", many),
    ]
    for name, batch in [
        ("stored batch", STORED),
        ("stored batch at the ends of all ranges", stored(extremes, (U64_MAX,) * 4)),
    ]:
        topic, base_offset, append_time, leader_epoch = batch.place
        place = {
            "topic": str(topic),
            "base_offset": str(base_offset),
            "append_time": str(append_time),
            "leader_epoch": str(leader_epoch),
        }
        entry = {"name": name, "kind": "stored_batch", "place": place, "fields": batch.fields()}
        out.append({**entry, "pieces": batch.pieces})
    return out


def stored(batch, place, **forged):
    return Batch(batch.records, batch.producer, batch.epoch, batch.sequence, place, **forged)


def canonical():
    out = [
        {"name": f"crc of {shown}", "kind": "crc32c", "value": f"{crc32c(data):08x}", "hex": data.hex()}
        for shown, data in [
            ("nothing", b""),
            ("123456789", b"123456789"),
            ("32 zeros", bytes(32)),
            ("all bytes", bytes(range(256))),
        ]
    ]
    out += field_entries() + preface_entries()
    for name, (kind, value) in POSITIONS.items():
        pieces = encode_value("Position", (kind, value), "position")
        fields = {"kind": kind, "value": str(value)}
        out.append({"name": f"position {name}", "kind": "position", "fields": fields, "pieces": pieces})
    correlation = 0
    for name, (opcode, answer) in OPERATIONS.items():
        for label, request_values, answer_values in [
            ("", REQUESTS[name], ANSWERS[name]),
            (" of zeros", zero(name), zero(answer)),
            (" of extremes", extreme(name), extreme(answer)),
        ]:
            correlation += 1
            at = U32_MAX if label == " of extremes" else correlation
            entry = {"operation": name}
            out.append(
                body_entry(entry, f"{name} request{label}", "request", name, opcode, 0, at, request_values)
            )
            out.append(
                body_entry(entry, f"{name} answer{label}", "answer", answer, opcode, 0, at, answer_values)
            )
    empty = {**ANSWERS["Consume"], "status": 1, "next": 2, "ranges": [], "batches": []}
    out.append(body_entry({"operation": "Consume"}, "Consume answer when nothing is left", "answer", "Delivered", 0x42, 0, 9, empty))
    gap = {
        "from": 0,
        "to": 40,
        "records": 40,
        "bytes": 4000,
        "first_time": NOON - 86_400_000_000,
        "last_time": NOON - 80_000_000_000,
        "reason": 0,
    }
    with_gap = {**empty, "status": 0, "high_watermark": 50, "log_start": 40, "next": 40, "gaps": [gap]}
    out.append(body_entry({"operation": "Fetch"}, "Fetch answer with a gap", "answer", "Delivered", 0x30, 0, 9, with_gap))
    settings = {"name": "app", "settings": [SETTING], "if_not_exists": True}
    out.append(body_entry({"operation": "CreateTopic"}, "CreateTopic request with a setting", "request", "CreateTopic", 0x10, 0, 9, settings))
    for name, (opcode, values) in ERRORS.items():
        out.append(body_entry({}, f"error {name}", "error", "Error", opcode, FLAG_ERROR, 5, values))
    for name, opcode in NOTICES.items():
        for label, values in [("", NOTICE_VALUES[name]), (" of extremes", extreme(name))]:
            out.append(body_entry({"notice": name}, f"{name} notice{label}", "notice", name, opcode, 0, 0, values))
    return out + batch_entries()


# ---------------------------------------------------------------------------------------------
# Accept: bytes that nobody has to write and everybody has to read.


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
                    decoded(f"{name} {kind} of an empty body", kind, body, opcode, zero(body), b"", **entry)
                )
            out.append(
                decoded(f"{name} {kind} with a tail of a newer version", kind, body, opcode, values, whole + b"\x01\x02\xff", **entry)
            )
            # Cut after every top-level field: all that is missing is zero, false, none or empty.
            for index in range(1, len(BODIES[body])):
                kept = BODIES[body][:index]
                cut = b"".join(join(encode_value(k, values[f], f)) for f, k in kept)
                expected = {f: values[f] if (f, k) in kept else zero(k) for f, k in BODIES[body]}
                out.append(
                    decoded(f"{name} {kind} that ends after {kept[-1][0]}", kind, body, opcode, expected, cut, **entry)
                )
    out += accept_details()
    return out


def accept_details():
    size, size_opcode = REQUESTS["Size"], 0x44
    seek = {"topic": 1, "consumer": 5, "to": (9, 0)}
    error = {**zero("Error"), "code": 20, "message": "no"}
    summary = {"name": "a", "topic": 1, "log_start": 0, "high_watermark": 0, "records": 0, "bytes": 0}
    grown = join(encode_body("TopicSummary", summary)) + b"\x07new"
    out = [
        decoded("numbers in more bytes than they need", "request", "Size", size_opcode, size, bytes.fromhex("8100 858000"), operation="Size"),
        decoded("an ignorable flag that is not known", "request", "Size", size_opcode, size, b"\x01\x05", flags=0x0F, operation="Size"),
        decoded("a position of a newer version", "request", "Seek", 0x43, seek, bytes.fromhex("01 05 09 07"), operation="Seek"),
        decoded("the earliest position with a value that means nothing", "request", "Seek", 0x43, {**seek, "to": (0, 0)}, bytes.fromhex("01 05 00 07"), operation="Seek"),
        decoded("an error that ends after its message", "error", "Error", 0x22, error, b"\x14\x02no", flags=FLAG_ERROR),
        decoded("an error with a tail of a newer version", "error", "Error", 0x22, error, b"\x14\x02no\x00\x00\x00\x00\x09", flags=FLAG_ERROR),
        decoded("an element with a tail of a newer version", "answer", "TopicsListed", 0x12, {"topics": [summary], "more": True}, b"\x01" + with_length(grown) + b"\x01", operation="ListTopics"),
        decoded("an element that ends early", "answer", "TopicsListed", 0x12, {"topics": [{**summary, "name": "b", "topic": 0}], "more": False}, bytes.fromhex("01 02 01 62"), operation="ListTopics"),
        decoded("a cluster of no bytes", "answer", "Greeted", 0x01, zero("Greeted"), bytes.fromhex("00 00 00"), operation="Hello"),
        decoded("an acknowledgement level of a newer version", "answer", "Produced", 0x22, {**zero("Produced"), "durability": 9}, bytes.fromhex("00 00 09"), operation="Produce"),
    ]
    args = (1, 1, 1, 0, bytes(16), 1, LIMITS)
    out.append({"name": "a broker's preface with a tail of a newer version", "kind": "broker_preface", "fields": broker_fields(*args), "hex": join(broker_preface(*args, tail=b"new")).hex()})
    fields = {"lowest": 1, "highest": 1, "features": "0"}
    out.append({"name": "a client's preface with reserved bytes set", "kind": "client_preface", "fields": fields, "hex": join(client_preface(1, 1, 0, U32_MAX)).hex()})
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
        out.append({"name": f"the position {text}", "kind": "position_text", "text": text, "fields": {"kind": kind, "value": str(value)}})
    for text in ("a", "T-1", "app.web_2", "-", "x" * 128):
        out.append({"name": f"the name {text[:20]}", "kind": "topic_name", "text": text})
    return out


def accept_batches():
    grown = join(record_pieces(0, 0, RECORDS[0], ""))
    body = grown[1:] + b"\x09tail"
    padded = Batch([RECORDS[0]], 3, 1, 0, tail=with_length(body))
    ignorable = stored(PRODUCED, (1, 0, NOON + 1_000, 0), attributes=0xFF00)
    rebuilt = stored(PRODUCED, (1, 0, NOON + 1_000, 0), attributes=0x0040)
    out = [{"name": "a record with a tail of a newer version", "kind": "batch", "fields": padded.fields(), "hex": padded.data.hex()}]
    other = Batch([record(NOON + 9, b"third")], 0, 0, 0, place=(1, 4, NOON + 2_000, 0))
    for name, batches, ranges in [
        ("a delivery of everything", [STORED, other], [(0, 2), (4, 5)]),
        ("a delivery of a part of a batch", [STORED], [(1, 2)]),
        ("a delivery of one range over two batches", [STORED, other], [(1, 5)]),
        ("a delivery of two parts with a hole", [STORED, other], [(0, 1), (4, 5)]),
        ("a delivery of a rebuilt batch", [rebuilt], [(0, 2)]),
        ("a delivery of a batch with attributes that may be ignored", [ignorable], [(0, 2)]),
        ("a delivery without ranges", [STORED], []),
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
            offset = batch.place[1] + index
            if any(a <= offset < b for a, b in ranges):
                records.append({"offset": str(offset), "append_time": str(batch.place[2]), **json_record(one)})
    data = frame(0x30, 0, 5, join(encode_body("Delivered", values)))
    return {"name": name, "kind": "delivery", "topic": "1", "records": records, "hex": data.hex()}


# ---------------------------------------------------------------------------------------------
# Reject: bytes that must be refused, with the error's name.


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
        ("a sequence that counts more than any body holds", "sequence of string", b"\xff" * 9 + b"\x01\x01a"),
        ("a sequence whose element is cut short", "sequence of string", b"\x01\x05a"),
    ]:
        out.append(refused(name, "field", "MALFORMED", data, type=kind))
    out += reject_frames() + reject_prefaces() + reject_batches()
    for text in ("", "-", "+5", "-1h", "5 s", "yesterday", "1x", str(U64_MAX + 1), "99999999999999d"):
        out.append({"name": f"the position {text!r}", "kind": "position_text", "text": text, "error": "INVALID_POSITION"})
    for text in ("", ".hidden", "a b", "\u00e4", "a/b", "a\n", "*", "x" * 129):
        out.append({"name": f"the name {text[:20]!r}", "kind": "topic_name", "text": text, "error": "INVALID_TOPIC_NAME"})
    return out


def reject_frames():
    limit = LIMITS["frame_bytes"]
    size = b"\x01\x05"
    return [
        refused("a frame of 4 GiB", "frame", "FRAME_TOO_LARGE", b"\xff\xff\xff\xff\x22\x00\x00\x00\x00\x05", limit=limit, correlation=5),
        refused("a frame of 4 GiB of which only the length came", "frame", "FRAME_TOO_LARGE", b"\xff\xff\xff\xff", limit=limit, correlation=0),
        refused("a frame of one byte over the limit", "frame", "FRAME_TOO_LARGE", struct.pack(">I", limit + 1) + b"\x22\x00\x00\x00\x00\x05", limit=limit, correlation=5),
        refused("a frame shorter than its header", "frame", "BAD_FRAME", b"\x00\x00\x00\x05\x02\x00\x00\x00\x00\x05", limit=limit, correlation=0),
        refused("a frame of no bytes", "frame", "BAD_FRAME", bytes(4), limit=limit, correlation=0),
        refused("an opcode that is not known", "request", "UNKNOWN_OPERATION", frame(0x7F, 0, 5, b"")),
        refused("a reserved opcode", "request", "UNKNOWN_OPERATION", frame(0x05, 0, 5, b"")),
        refused("an opcode between brokers", "request", "UNKNOWN_OPERATION", frame(0xC0, 0, 5, b"")),
        refused("a notice from a client", "request", "UNKNOWN_OPERATION", frame(0xA0, 0, 5, b"")),
        refused("a critical flag that is not known", "request", "UNKNOWN_FLAG", frame(0x44, 0x10, 5, size)),
        refused("the error flag in a request", "request", "UNKNOWN_FLAG", frame(0x44, 0x80, 5, size)),
        refused("a request whose number is cut short", "request", "MALFORMED", frame(0x44, 0, 5, b"\x01\x80")),
        refused("a request whose name is not UTF-8", "request", "MALFORMED", frame(0x13, 0, 5, b"\x01\xff")),
        refused("a sequence element that is malformed", "request", "MALFORMED", frame(0x10, 0, 5, b"\x01a\x01\x02\x05k\x00")),
        refused("a batch longer than its frame", "request", "MALFORMED", frame(0x22, 0, 5, b"\x01\x00\x00\x00\xff\xff\xff\x03")),
        refused("a cluster that is not 16 bytes", "answer", "MALFORMED", frame(0x01, 0, 5, b"\x00\x00\x0f" + bytes(15))),
    ]


def reject_prefaces():
    good = join(broker_preface(1, 1, 1, 0, bytes(16), 1, LIMITS))
    return [
        refused("a client's preface with another magic", "client_preface", "BAD_PREFACE", b"\xd4LOX" + bytes(16)),
        refused("a TLS greeting", "client_preface", "BAD_PREFACE", b"\x16\x03\x01"),
        refused("a broker's preface with another magic", "broker_preface", "BAD_PREFACE", b"HTTP/1.1 400"),
        refused("a broker's preface that is too short", "broker_preface", "BAD_PREFACE", good[:4] + b"\x00\x3d" + good[6:67]),
        refused("a broker without a version in common", "broker_preface", "UNSUPPORTED_VERSION", join(broker_preface(0, 2, 3, 0, bytes(16), 1, LIMITS))),
        refused("a broker that chose a version we did not offer", "broker_preface", "UNSUPPORTED_VERSION", join(broker_preface(2, 1, 2, 0, bytes(16), 1, LIMITS))),
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
        bad("a batch with a wrong lowest timestamp", "BATCH_CORRUPT", Batch(two, lowest_timestamp=999)),
        bad("a batch with a wrong highest timestamp", "BATCH_CORRUPT", Batch(two, highest_timestamp=1251)),
        bad("a batch in which no record has the lowest timestamp", "BATCH_CORRUPT", Batch(two, tail=no_lowest, lowest_timestamp=999, highest_timestamp=1249)),
        bad("a batch whose times exceed 64 bits", "BATCH_CORRUPT", Batch(two, lowest_timestamp=U64_MAX, highest_timestamp=249)),
        bad("a batch whose offset deltas do not count up", "BATCH_CORRUPT", Batch(two, tail=wrong_delta)),
        bad("a record longer than its batch", "BATCH_CORRUPT", Batch(two, tail=b"\x7f" + join(first)[1:] + join(second))),
        bad("a record that ends within its fields", "BATCH_CORRUPT", Batch(two, tail=b"\x03\x00\x00\x00" + join(second))),
        bad("a record with more headers than bytes", "BATCH_CORRUPT", Batch([two[0]], tail=with_length(b"\x00\x00\x09\x00" + varint(U64_MAX) + b"\x03one"))),
        bad("a severity above 24", "BATCH_CORRUPT", Batch([record(0, b"x", severity=25)])),
        bad("a header's name that is not UTF-8", "BATCH_CORRUPT", Batch([header], tail=not_utf8)),
        bad("a batch over the limit", "BATCH_TOO_LARGE", Batch(two), batch_limit=len(good) - 1),
        bad("a record over the limit", "RECORD_TOO_LARGE", Batch(two), record_limit=2),
        bad("a layout of another version", "NOT_SUPPORTED", Batch(two, layout=2)),
        bad("a compressed batch", "NOT_SUPPORTED", Batch(two, attributes=0x0001)),
        bad("a rebuilt batch from a producer", "NOT_SUPPORTED", Batch(two, attributes=0x0040)),
        bad("an attribute without a meaning from a producer", "NOT_SUPPORTED", Batch(two, attributes=0x8000)),
        bad("a reserved byte set in the broker's part", "NOT_SUPPORTED", Batch(two, reserved_1=b"\x00\x00\x01")),
        bad("a reserved byte set in the producer's part", "NOT_SUPPORTED", Batch(two, reserved_2=1)),
    ]
    place = (1, 0, NOON, 0)
    for name, error, topic, batch in [
        ("a stored batch of another topic", "BATCH_CORRUPT", 2, Batch(two, place=place)),
        ("a stored batch with a wrong broker's CRC", "BATCH_CORRUPT", 1, Batch(two, place=place, broker_crc=1)),
        ("a stored batch with a wrong producer's CRC", "BATCH_CORRUPT", 1, Batch(two, place=place, producer_crc=1)),
        ("a stored batch that is cut short", "BATCH_CORRUPT", 1, Batch(two, place=place).data[:-1]),
        ("a stored batch of another layout", "NOT_SUPPORTED", 1, Batch(two, place=place, layout=2)),
    ]:
        data = batch.data if isinstance(batch, Batch) else batch
        out.append(refused(name, "stored_batch", error, data, topic=str(topic)))
    for name, error, batches in [
        ("a delivery whose batches overlap", "BATCH_CORRUPT", [STORED, STORED]),
        ("a delivery of a batch of another topic", "BATCH_CORRUPT", [stored(PRODUCED, (2, 0, NOON, 0))]),
        ("a delivery of a compressed batch", "NOT_SUPPORTED", [stored(PRODUCED, place, attributes=0x0002)]),
        ("a delivery of a control batch", "NOT_SUPPORTED", [stored(PRODUCED, place, attributes=0x0010)]),
        ("a delivery of an encrypted batch", "NOT_SUPPORTED", [stored(PRODUCED, place, attributes=0x0020)]),
        ("a delivery of a batch with a broken record", "BATCH_CORRUPT", [Batch(two, place=place, tail=b"\x7f")]),
        ("a delivery of a batch that counts too many records", "BATCH_CORRUPT", [Batch(two, place=place, count=3)]),
    ]:
        entry = delivery(name, batches, [(0, 9)])
        del entry["records"]
        out.append({**entry, "error": error})
    return out


# ---------------------------------------------------------------------------------------------


def finished(entries):
    names = [entry["name"] for entry in entries]
    assert len(names) == len(set(names)), sorted(n for n in names if names.count(n) > 1)
    out = []
    for entry in entries:
        entry = dict(entry)
        pieces = entry.pop("pieces", None)
        if pieces is not None:
            entry["hex"] = join(pieces).hex()
        out.append(entry)
    lines = ",\n".join("  " + json.dumps(entry, ensure_ascii=False) for entry in out)
    return f"[\n{lines}\n]\n"


def show(name):
    """The entry as a block of PROTOCOL.md: one field on a line, its path and value behind it."""
    entry = next((e for e in canonical() if e["name"] == name and "pieces" in e), None)
    if entry is None:
        sys.exit(f"no canonical entry with fields is named {name!r}; see --list")
    lines = []
    for data, path, shown in entry["pieces"]:
        rows = [data[at : at + 16] for at in range(0, len(data), 16)] or [b""]
        for row in rows[:-1]:
            lines.append(row.hex(" "))
        lines.append(f"{rows[-1].hex(' '):<48}; {path} = {shown}")
    return "\n".join(lines)


def main():
    arguments = sys.argv[1:]
    if arguments[:1] == ["--show"] and len(arguments) == 2:
        print(show(arguments[1]))
        return
    if arguments == ["--list"]:
        print("\n".join(entry["name"] for entry in canonical()))
        return
    if arguments not in ([], ["--check"]):
        sys.exit(__doc__)
    stale = []
    for name, entries in [("canonical", canonical()), ("accept", accept()), ("reject", reject())]:
        path, text = HERE / f"{name}.json", finished(entries)
        if not arguments:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path.name)
    if stale:
        sys.exit(f"{', '.join(stale)}: not what generate.py writes; run it and look at the difference")


if __name__ == "__main__":
    main()
