"""Canonical entries: encoding the fields gives the bytes, decoding the bytes gives the fields."""

from story import (
    ANSWERS,
    ERRORS,
    FILTER,
    LIMITS,
    NOON,
    NOTICE_VALUES,
    POSITIONS,
    PRODUCED,
    REQUESTS,
    SETTING,
    STORED,
)
from wire import (
    Batch,
    FLAG_ERROR,
    NOTICES,
    OPERATIONS,
    U32_MAX,
    U64_MAX,
    broker_preface,
    client_preface,
    crc32c,
    encode_body,
    encode_value,
    extreme,
    frame_pieces,
    json_body,
    record,
    varint,
    with_length,
    zero,
)


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
            {
                "name": name,
                "kind": "broker_preface",
                "fields": broker_fields(*args),
                "pieces": pieces,
            }
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
        {
            "name": f"crc of {shown}",
            "kind": "crc32c",
            "value": f"{crc32c(data):08x}",
            "hex": data.hex(),
        }
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
        out.append(
            {"name": f"position {name}", "kind": "position", "fields": fields, "pieces": pieces}
        )
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
                body_entry(
                    entry, f"{name} request{label}", "request", name, opcode, 0, at, request_values
                )
            )
            out.append(
                body_entry(
                    entry, f"{name} answer{label}", "answer", answer, opcode, 0, at, answer_values
                )
            )
    empty = {**ANSWERS["Consume"], "status": 1, "next": 2, "ranges": [], "batches": []}
    out.append(
        body_entry(
            {"operation": "Consume"},
            "Consume answer when nothing is left",
            "answer",
            "Delivered",
            0x42,
            0,
            9,
            empty,
        )
    )
    leased = {**REQUESTS["Consume"], "sequence": 2, "max_records": 0, "lease_ms": 30_000}
    given = {
        **ANSWERS["Consume"],
        "next": 2,
        "ranges": [
            {"from": 0, "to": 1, "deliveries": 2, "lease": 7},
            {"from": 1, "to": 2, "deliveries": 0, "lease": 7},
        ],
    }
    held = {**empty, "status": 2}
    for label, kind, body, values in [
        ("request with a lease", "request", "Consume", leased),
        ("answer with a lease", "answer", "Delivered", given),
        ("answer when what is left is held", "answer", "Delivered", held),
    ]:
        out.append(
            body_entry(
                {"operation": "Consume"}, f"Consume {label}", kind, body, 0x42, 0, 9, values
            )
        )
    gap = {
        "from": 0,
        "to": 40,
        "records": 40,
        "bytes": 4000,
        "first_time": NOON - 86_400_000_000,
        "last_time": NOON - 80_000_000_000,
        "reason": 0,
    }
    with_gap = {
        **empty,
        "status": 0,
        "high_watermark": 50,
        "log_start": 40,
        "next": 40,
        "gaps": [gap],
    }
    out.append(
        body_entry(
            {"operation": "Fetch"},
            "Fetch answer with a gap",
            "answer",
            "Delivered",
            0x30,
            0,
            9,
            with_gap,
        )
    )
    search = {**REQUESTS["Fetch"], "max_wait_ms": 0, "filter": FILTER}
    passed = {**empty, "status": 3, "high_watermark": 90_000, "next": 61_440}
    for label, body, values in [("request", "Fetch", search), ("answer", "Delivered", passed)]:
        out.append(
            body_entry(
                {"operation": "Fetch"},
                f"Fetch {label} of a search",
                label,
                body,
                0x30,
                0,
                9,
                values,
            )
        )
    settings = {"name": "app", "settings": [SETTING], "if_not_exists": True}
    out.append(
        body_entry(
            {"operation": "CreateTopic"},
            "CreateTopic request with a setting",
            "request",
            "CreateTopic",
            0x10,
            0,
            9,
            settings,
        )
    )
    for label, direction, body, values in [
        ("request", "request", "Produce", {**REQUESTS["Produce"], "not_before": NOON + 60_000_000}),
        ("answer", "answer", "Produced", {**ANSWERS["Produce"], "durability": 2}),
    ]:
        out.append(
            body_entry(
                {"operation": "Produce"},
                f"Produce {label} of a delay",
                direction,
                body,
                0x22,
                0,
                9,
                values,
            )
        )
    for name, (opcode, values) in ERRORS.items():
        out.append(body_entry({}, f"error {name}", "error", "Error", opcode, FLAG_ERROR, 5, values))
    for name, opcode in NOTICES.items():
        for label, values in [("", NOTICE_VALUES[name]), (" of extremes", extreme(name))]:
            out.append(
                body_entry(
                    {"notice": name}, f"{name} notice{label}", "notice", name, opcode, 0, 0, values
                )
            )
    return out + batch_entries()
