//! What the broker is asked to reach, on two cores with broker and load generator side by side.
//!
//! Owns the table. A figure is known by its name, which says with which arguments it was measured;
//! the same work in another form has another name and nothing asked of it.

use super::figure::{Bound, Figure, Of};
use Bound::{AtLeast, AtMost};
use Of::{Ratio, Value};

const REACH: [(&str, Bound, Of, f64); 38] = [
    // On files that grow the disk is the limit; on files that were written ahead it is faster.
    ("produce 1 KiB, bytes", AtLeast, Ratio, 0.85),
    (
        "produce 1 KiB, files written ahead",
        AtLeast,
        Value,
        880_000.0,
    ),
    ("produce 100 B", AtLeast, Value, 1_500_000.0),
    (
        "one durable record of 100 B at a time, p50",
        AtMost,
        Ratio,
        1.3,
    ),
    (MANY, AtLeast, Ratio, 25.0),
    (MANY, AtLeast, Value, 80_000.0),
    (EIGHTS_IN, AtLeast, Ratio, 0.8),
    (EIGHTS_OUT, AtLeast, Ratio, 0.8),
    (BUSY_TOPICS, AtLeast, Ratio, 0.6),
    ("fetch 1 KiB, warm, batches", AtLeast, Ratio, 0.7),
    ("fetch 1 KiB, warm, records", AtLeast, Ratio, 0.7),
    ("fetch 1 KiB, cold, batches", AtLeast, Ratio, 0.8),
    ("fetch 1 KiB, cold, records", AtLeast, Ratio, 0.8),
    ("fetch 100 B, warm, records", AtLeast, Value, 3_500_000.0),
    ("consume 100 B, warm, records", AtLeast, Value, 3_500_000.0),
    (
        "produce to fetch, 100 B at 10000/s, p50",
        AtMost,
        Ratio,
        2.5,
    ),
    (
        "produce to fetch, 100 B at 10000/s, p99",
        AtMost,
        Ratio,
        8.0,
    ),
    (
        "produce to consume, 100 B at 10000/s, p50",
        AtMost,
        Ratio,
        5.0,
    ),
    (
        "produce to consume, 100 B at 10000/s, p99",
        AtMost,
        Ratio,
        12.0,
    ),
    ("an idle connection, memory", AtMost, Value, 8192.0),
    ("SIGKILL to the first record, warm", AtMost, Value, 0.5),
    (
        "SIGKILL to the first record, cold page cache",
        AtMost,
        Value,
        1.5,
    ),
    ("memory after the first record, warm", AtMost, Value, 90e6),
    (
        "memory after the first record, cold page cache",
        AtMost,
        Value,
        90e6,
    ),
    (FOOTPRINT, AtMost, Value, 1.25),
    ("an idle broker", AtMost, Value, 0.5),
    (LEASE_BARE, AtLeast, Value, 300_000.0),
    (LEASE_CLIENT, AtLeast, Value, 300_000.0),
    (IDLE_RETENTION, AtMost, Value, 2.0),
    (RETENTION, AtMost, Ratio, 2.0),
    (
        "beside 5000 slow connections: synced, p99",
        AtMost,
        Ratio,
        2.0,
    ),
    (
        "beside 5000 slow connections: consumed, p99",
        AtMost,
        Ratio,
        2.0,
    ),
    (
        "beside 100 consumers that never read: synced, p99",
        AtMost,
        Ratio,
        2.0,
    ),
    (
        "beside 100 consumers that never read: consumed, p99",
        AtMost,
        Ratio,
        2.0,
    ),
    (
        "beside 10000 idle connections: synced, p99",
        AtMost,
        Ratio,
        2.0,
    ),
    (
        "beside 10000 idle connections: consumed, p99",
        AtMost,
        Ratio,
        2.0,
    ),
    ("beside 20000 bad frames: synced, p99", AtMost, Ratio, 2.0),
    ("beside 20000 bad frames: consumed, p99", AtMost, Ratio, 2.0),
];
const LEASE_BARE: &str = "lease 100 B, 8 workers, acks of 100, bare requests";
const LEASE_CLIENT: &str = "lease 100 B, 8 workers, acks of 100, client";
const IDLE_RETENTION: &str = "an idle broker, 10000 topics with retention";
const RETENTION: &str = "one durable record at a time, p99, while retention removes";
const MANY: &str = "64 producers, one record of 100 B in flight each, own connections";
const EIGHTS_IN: &str = "8 producers, 8 topics, 8 consumers, 1 KiB, 64 KiB batches: in";
const EIGHTS_OUT: &str = "8 producers, 8 topics, 8 consumers, 1 KiB, 64 KiB batches: out";
const BUSY_TOPICS: &str = "256 producers, 256 topics, 1 KiB, 64 KiB batches: in";
const FOOTPRINT: &str = "bytes on disk per byte, 100 B, batches of 1000, pipelined";

/// Puts what is asked to a figure, if anything is.
pub(super) fn ask(figure: &mut Figure) {
    for (name, bound, of, value) in REACH {
        if figure.name == name {
            figure.reaching(bound, of, value);
        }
    }
}
