"""The bytes of the logdrive protocol, written from PROTOCOL.md alone: a second implementation.

Owns the CRC-32C, the varints, the tables of fields and the encoders. It knows no example; what it
encodes comes from its neighbours.
"""

import json
import struct

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
    "consumer_count:u32 consumers:ConsumerSummary* more:boolean held_by:string owner:string",
    "AlterTopic": "topic:u64 set:Setting* unset:string*",
    "TopicAltered": "settings:Setting*",
    "PurgeTopic": "topic:u64 before:Position",
    "TopicPurged": "log_start:u64 records:u64 bytes:u64",
    "ConsumerSummary": "name:string consumer:u64 cursor:u64 records:u64 bytes:u64 workers:u32",
    "RegisterProducer": "topic:string name:string producer:u64 instance:u64 create_topic:boolean",
    "ProducerRegistered": "topic:u64 producer:u64 epoch:u32 next_sequence:u64 topic_created:boolean",
    "UnregisterProducer": "topic:u64 producer:u64 epoch:u32",
    "ProducerUnregistered": "",
    "Produce": "topic:u64 leader_epoch:u64 ack:u8 not_before:u64 batch:bytes",
    "Produced": "base_offset:u64 append_time:u64 durability:u8 leader_epoch:u64",
    "ProduceAll": "parts:Part* consumed:Consumed*",
    "Part": "topic:u64 batch:bytes",
    "Consumed": "topic:u64 consumer:u64 worker:u64 settled:Settled*",
    "Settled": "lease:u64 from:u64 to:u64",
    "ProducedAll": "parts:Produced* acked:u64",
    "Fetch": "topic:u64 from:Position max_records:u32 max_bytes:u32 max_wait_ms:u32 "
    "leader_epoch:u64 filter:Setting*",
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
    "UnregisterWorker": "topic:u64 consumer:u64 worker:u64",
    "WorkerUnregistered": "",
    "Seek": "topic:u64 consumer:u64 to:Position",
    "Sought": "cursor:u64",
    "Size": "topic:u64 consumer:u64",
    "Measured": "records:u64 bytes:u64 oldest_age:u64 leased:u64 delayed:u64 gaps:u64",
    "Ack": "topic:u64 consumer:u64 worker:u64 settled:Settled*",
    "Acked": "records:u64",
    "Nack": "topic:u64 consumer:u64 worker:u64 settled:Settled* delay_ms:u32",
    "Nacked": "records:u64",
    "Extend": "topic:u64 consumer:u64 worker:u64 lease:u64 lease_ms:u32",
    "Extended": "",
    "Requeue": "topic:u64 consumer:u64 dead_letters:u64 ranges:Offsets*",
    "Requeued": "records:u64",
    "Offsets": "from:u64 to:u64",
    "AlterConsumer": "topic:u64 consumer:u64 set:Setting* unset:string* pause:u8",
    "ConsumerAltered": "settings:Setting* paused:boolean",
    "DescribeConsumer": "topic:u64 consumer:u64 after:u64 limit:u32",
    "ConsumerDescribed": "name:string settings:Setting* paused:boolean cursor:u64 next:u64 "
    "records:u64 bytes:u64 leased:u64 waiting:u64 gaps:u64 workers:u32 held_by:string "
    "held_offset:u64 held_key:string? leases:LeaseSummary* more:boolean",
    "LeaseSummary": "lease:u64 worker:u64 records:u64 from:u64 left_ms:u64",
    "Hello": "client:string version:string",
    "Greeted": "broker:string version:string cluster:bytes16 node:u64 started_at:u64 "
    "limits:Setting*",
    "Ping": "",
    "Pinged": "state:u8 now:u64 free_bytes:u64",
    "Metadata": "topics:string*",
    "Located": "nodes:Node* topics:TopicPlace*",
    "Node": "id:u64 address:string",
    "TopicPlace": "name:string id:u64 leader:u64 leader_epoch:u64",
    "Authenticate": "mechanism:string data:bytes",
    "Authenticated": "done:boolean data:bytes principal:string",
    "CreatePrincipal": "name:string grants:Grant* quotas:Setting* tokens:string* password:Verifier*",
    "PrincipalCreated": "tokens:IssuedToken*",
    "Grant": "rights:u8 topics:string",
    "Verifier": "salt:bytes iterations:u32 stored_key:bytes server_key:bytes",
    "IssuedToken": "label:string token:bytes",
    "AlterPrincipal": "name:string grant:Grant* revoke:Grant* set:Setting* unset:string* "
    "tokens:string* forget_tokens:string* password:Verifier* forget_password:boolean",
    "PrincipalAltered": "tokens:IssuedToken*",
    "DeletePrincipal": "name:string",
    "PrincipalDeleted": "",
    "ListPrincipals": "glob:string after:string limit:u32",
    "PrincipalsListed": "principals:PrincipalSummary* more:boolean",
    "PrincipalSummary": "name:string created_at:u64 grants:Grant* quotas:Setting* "
    "tokens:TokenSummary* password:boolean usage:Counter*",
    "TokenSummary": "label:string created_at:u64",
    "Cancel": "topic:u64 correlation:u32",
    "CancelPassed": "",
    "Stats": "topic:string",
    "Counted": "counters:Counter*",
    "Counter": "name:string value:u64",
    "GoingAway": "deadline_ms:u32 reason:string",
    "StateChanged": "state:u8 topic:u64",
}
BODIES = {
    name: [tuple(field.split(":")) for field in fields.split()] for name, fields in BODIES.items()
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
    "AlterTopic": (0x14, "TopicAltered"),
    "PurgeTopic": (0x15, "TopicPurged"),
    "RegisterProducer": (0x20, "ProducerRegistered"),
    "UnregisterProducer": (0x21, "ProducerUnregistered"),
    "Produce": (0x22, "Produced"),
    "ProduceAll": (0x23, "ProducedAll"),
    "Fetch": (0x30, "Delivered"),
    "RegisterConsumer": (0x40, "ConsumerRegistered"),
    "UnregisterConsumer": (0x41, "ConsumerUnregistered"),
    "Consume": (0x42, "Delivered"),
    "Seek": (0x43, "Sought"),
    "Size": (0x44, "Measured"),
    "Ack": (0x45, "Acked"),
    "Nack": (0x46, "Nacked"),
    "Extend": (0x47, "Extended"),
    "Requeue": (0x48, "Requeued"),
    "AlterConsumer": (0x49, "ConsumerAltered"),
    "UnregisterWorker": (0x4A, "WorkerUnregistered"),
    "DescribeConsumer": (0x4B, "ConsumerDescribed"),
    "CreatePrincipal": (0x50, "PrincipalCreated"),
    "AlterPrincipal": (0x51, "PrincipalAltered"),
    "DeletePrincipal": (0x52, "PrincipalDeleted"),
    "ListPrincipals": (0x53, "PrincipalsListed"),
    "Authenticate": (0x05, "Authenticated"),
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
    return (
        quoted(data.decode())
        if data.isascii() and data.decode().isprintable()
        else "x:" + data.hex()
    )


def join(pieces):
    return b"".join(piece[0] for piece in pieces)


def encode_value(kind, value, path):
    """Pieces of one field; `kind` is a type of PROTOCOL.md, `X*` a sequence and `X?` an option."""
    if kind.endswith("*"):
        pieces = [(varint(len(value)), path, str(len(value)))]
        for index, element in enumerate(value):
            pieces += encode_element(kind[:-1], element, f"{path}[{index}]")
        return pieces
    if kind.endswith("?"):
        if value is None:
            return [(b"\x00", path, "0")]
        return [(b"\x01", path, "1")] + encode_value(kind[:-1], value, path)
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
        lowest = forged.get("lowest_timestamp", lowest) if "deltas" in forged else lowest
        # A rebuilt batch leaves records out: the others keep their offset and timestamp deltas.
        self.deltas = forged.get("deltas", range(len(records)))
        tail = []
        for index, (delta, record) in enumerate(zip(self.deltas, records, strict=True)):
            tail += record_pieces(delta, record["timestamp"] - lowest, record, f"records[{index}]")
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
        if "codec" in forged:
            # What packs the records, by its number in the attributes.
            number, pack = forged["codec"]
            packed = pack(join(tail))
            tail = [(packed, "packed", f"{len(packed)} bytes")]
            head["attributes"] = number
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
        (
            (b"\x00", "key", "none")
            if key is None
            else (varint(len(key) + 1) + key, "key", shown_bytes(key))
        ),
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
    if kind.endswith("?"):
        return None if value is None else json_value(kind[:-1], value)
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
# Values at the two ends of every type.


def extreme(kind):
    """A value of a type at the upper end of its range."""
    if kind.endswith("*"):
        return [extreme(kind[:-1])] * 2
    if kind.endswith("?"):
        return extreme(kind[:-1])
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
    if kind.endswith("?"):
        return None
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
