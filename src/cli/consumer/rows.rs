//! How consumers, their settings and their leases are shown.

use logdrive_client::{ConsumerDescribed, ConsumerSummary, LeaseSummary, Setting};

use crate::cli::output::Row;

/// One line of a list.
pub(super) fn summary(it: &ConsumerSummary) -> Row {
    Row::new()
        .text("name", &it.name)
        .count("id", it.consumer.0)
        .count("cursor", it.cursor)
        .count("records", it.records)
        .count("bytes", it.bytes)
        .count("workers", u64::from(it.workers))
}

/// All of one.
pub(super) fn description(it: &ConsumerDescribed) -> Row {
    let mut row = Row::new()
        .text("name", &it.name)
        .count("cursor", it.cursor)
        .count("next", it.next)
        .count("records", it.records)
        .count("bytes", it.bytes)
        .count("leased", it.leased)
        .count("waiting", it.waiting)
        .count("gaps", it.gaps)
        .count("workers", u64::from(it.workers))
        .flag("paused", it.paused)
        .text("held_by", &it.held_by);
    if let Some(key) = &it.held_key {
        row = row
            .count("held_offset", it.held_offset)
            .text("held_key", key);
    }
    row.rows("settings", settings(&it.settings))
        .rows("leases", it.leases.iter().map(lease).collect())
}

/// Names and values.
pub(super) fn settings(settings: &[Setting]) -> Vec<Row> {
    let row = |it: &Setting| Row::new().text("name", &it.key).text("value", &it.value);
    settings.iter().map(row).collect()
}

fn lease(it: &LeaseSummary) -> Row {
    Row::new()
        .count("lease", it.lease)
        // Beyond what numbers of JSON hold everywhere.
        .text("worker", it.worker.to_string())
        .count("records", it.records)
        .count("from", it.from)
        .count("left_ms", it.left_ms)
}
