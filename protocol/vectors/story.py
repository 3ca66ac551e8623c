"""The values of the examples: one story, which the transcripts of PROTOCOL.md tell too.

Topic `app` is 1, producer 3 sends two records, consumer 5 takes them.
"""

from wire import Batch, record

LIMITS = {
    "frame_bytes": 8 << 20,
    "window_bytes": 32 << 20,
    "batch_bytes": 4 << 20,
    "record_bytes": 1 << 20,
    "batches_in_flight": 64,
    "wait_ms": 300_000,
    "idle_ms": 300_000,
}


NOON = 1_767_268_800_000_000  # 2026-01-01T12:00:00Z
RECORDS = [
    record(NOON, b"hello", severity=9, key=b"web", headers=[("host", b"web-1")]),
    record(NOON + 250, b"again"),
]
PRODUCED = Batch(RECORDS, producer=3, epoch=1, sequence=0)
ALONE = Batch([record(NOON, b"paid")])
STORED = Batch(RECORDS, producer=3, epoch=1, sequence=0, place=(1, 0, NOON + 1_000, 0))
WORKER = 1_311_768_467_463_790_320
SETTING = {"key": "max_record_bytes", "value": "65536"}
FILTER = [{"key": "severity", "value": "warn"}, {"key": "grep", "value": "time.?out"}]
LIMIT_SETTINGS = [{"key": "topics", "value": "100000"}]

TOKEN = b"ldt_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
APP_GRANT = {"rights": 3, "topics": "app.*"}
# RFC 7677's example: user `user`, password `pencil`.
CLIENT_FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
SERVER_FIRST = (
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
)
VERIFIER = {
    "salt": bytes.fromhex("5b6d99689d12358eeca04b141236fa81"),
    "iterations": 65_536,
    "stored_key": bytes(range(32)),
    "server_key": bytes(range(32, 64)),
}
REQUESTS = {
    "CreateTopic": {"name": "app", "settings": [], "if_not_exists": False},
    "DeleteTopic": {"topic": 2},
    "ListTopics": {"glob": "a*", "after": "", "limit": 0},
    "DescribeTopic": {"name": "app", "after": "", "limit": 0},
    "AlterTopic": {
        "topic": 1,
        "set": [{"key": "retention_age", "value": "7d"}],
        "unset": ["description"],
    },
    "PurgeTopic": {"topic": 1, "before": (2, 1)},
    "RegisterProducer": {
        "topic": "app",
        "name": "",
        "producer": 0,
        "instance": 81985529216486895,
        "create_topic": True,
    },
    "UnregisterProducer": {"topic": 1, "producer": 3, "epoch": 1},
    "Produce": {"topic": 1, "leader_epoch": 0, "ack": 0, "not_before": 0, "batch": PRODUCED},
    "ProduceAll": {
        "parts": [{"topic": 1, "batch": ALONE}, {"topic": 7, "batch": ALONE}],
        "consumed": [
            {
                "topic": 9,
                "consumer": 6,
                "worker": 1311768467463790320,
                "settled": [{"lease": 12, "from": 0, "to": 2}],
            }
        ],
    },
    "Fetch": {
        "topic": 1,
        "from": (0, 0),
        "max_records": 100,
        "max_bytes": 0,
        "max_wait_ms": 5000,
        "leader_epoch": 0,
        "filter": [],
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
        "worker": WORKER,
        "sequence": 1,
        "max_records": 1,
        "max_bytes": 0,
        "max_wait_ms": 0,
        "lease_ms": 0,
        "leader_epoch": 0,
    },
    "UnregisterWorker": {"topic": 1, "consumer": 5, "worker": WORKER},
    "Seek": {"topic": 1, "consumer": 5, "to": (2, 0)},
    "Size": {"topic": 1, "consumer": 5},
    "Ack": {
        "topic": 1,
        "consumer": 5,
        "worker": WORKER,
        "settled": [
            {"lease": 7, "from": 0, "to": 2},
            {"lease": 8, "from": 4, "to": 5},
        ],
    },
    "Nack": {
        "topic": 1,
        "consumer": 5,
        "worker": WORKER,
        "settled": [{"lease": 8, "from": 5, "to": 6}],
        "delay_ms": 5000,
    },
    "Extend": {"topic": 1, "consumer": 5, "worker": WORKER, "lease": 8, "lease_ms": 30_000},
    "Requeue": {
        "topic": 1,
        "consumer": 5,
        "dead_letters": 6,
        "ranges": [{"from": 0, "to": 3}],
    },
    "AlterConsumer": {
        "topic": 1,
        "consumer": 5,
        "set": [{"key": "max_deliveries", "value": "5"}],
        "unset": ["backoff"],
        "pause": 0,
    },
    "DescribeConsumer": {"topic": 1, "consumer": 5, "after": 0, "limit": 0},
    "Hello": {"client": "example", "version": "1.0"},
    "Ping": {},
    "Metadata": {"topics": ["app", "nowhere"]},
    "Cancel": {"topic": 1, "correlation": 7},
    "Authenticate": {"mechanism": "SCRAM-SHA-256", "data": CLIENT_FIRST},
    "Stats": {"topic": "app"},
    "CreatePrincipal": {
        "name": "ann",
        "grants": [APP_GRANT],
        "quotas": [{"key": "connections", "value": "5"}],
        "tokens": ["ci"],
        "password": [],
    },
    "AlterPrincipal": {
        "name": "ann",
        "grant": [{"rights": 4, "topics": "app.web"}],
        "revoke": [{"rights": 1, "topics": "app.*"}],
        "set": [],
        "unset": ["connections"],
        "tokens": [],
        "forget_tokens": ["ci"],
        "password": [VERIFIER],
        "forget_password": False,
    },
    "DeletePrincipal": {"name": "ann"},
    "ListPrincipals": {"glob": "", "after": "", "limit": 0},
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
        "held_by": "",
        "owner": "ann",
    },
    "AlterTopic": {"settings": [{"key": "retention_age", "value": "7d"}]},
    "PurgeTopic": {"log_start": 1, "records": 1, "bytes": 12},
    "RegisterProducer": {
        "topic": 1,
        "producer": 3,
        "epoch": 1,
        "next_sequence": 0,
        "topic_created": False,
    },
    "UnregisterProducer": {},
    "Produce": {"base_offset": 0, "append_time": NOON + 1_000, "durability": 0, "leader_epoch": 0},
    "ProduceAll": {
        "parts": [
            {"base_offset": 2, "append_time": NOON + 2_000, "durability": 0, "leader_epoch": 0},
            {"base_offset": 0, "append_time": NOON + 2_000, "durability": 0, "leader_epoch": 0},
        ],
        "acked": 2,
    },
    "Fetch": DELIVERED,
    "RegisterConsumer": {"topic": 1, "consumer": 5, "cursor": 0, "created": True},
    "UnregisterConsumer": {},
    "Consume": {
        **DELIVERED,
        "next": 1,
        "ranges": [{"from": 0, "to": 1, "deliveries": 0, "lease": 0}],
    },
    "Ack": {"records": 3},
    "Nack": {"records": 1},
    "Extend": {},
    "Requeue": {"records": 3},
    "AlterConsumer": {"settings": [{"key": "max_deliveries", "value": "5"}], "paused": False},
    "DescribeConsumer": {
        "name": "c1",
        "settings": [{"key": "order", "value": "key"}],
        "paused": False,
        "cursor": 4,
        "next": 9,
        "records": 6,
        "bytes": 66,
        "leased": 2,
        "waiting": 1,
        "gaps": 0,
        "workers": 1,
        "held_by": "records wait for their keys",
        "held_offset": 6,
        "held_key": "web",
        "leases": [{"lease": 8, "worker": WORKER, "records": 2, "from": 4, "left_ms": 12_000}],
        "more": False,
    },
    "UnregisterWorker": {},
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
            {"name": "nowhere", "id": 0, "leader": 1, "leader_epoch": 0},
        ],
    },
    "Cancel": {},
    "Authenticate": {"done": False, "data": SERVER_FIRST, "principal": ""},
    "Stats": {"counters": [{"name": "batches_appended", "value": 1}]},
    "CreatePrincipal": {"tokens": [{"label": "ci", "token": TOKEN}]},
    "AlterPrincipal": {"tokens": []},
    "DeletePrincipal": {},
    "ListPrincipals": {
        "principals": [
            {
                "name": "ann",
                "created_at": NOON,
                "grants": [APP_GRANT],
                "quotas": [{"key": "connections", "value": "5"}],
                "tokens": [{"label": "ci", "created_at": NOON}],
                "password": False,
                "usage": [{"name": "connections", "value": 2}],
            }
        ],
        "more": False,
    },
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
    "invalid delay": (
        0x22,
        {
            "code": 44,
            "message": "`not_before` lies in the past",
            "hint": "count from the broker's clock, which ping shows",
            "first": NOON,
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
