//! The broker's own store on a disk that loses power and fails, and what must be found afterwards.
//!
//! Real topics ([`State`](crate::topic::state::State) with its log, producers and consumers) stage
//! what clients ask of them into a real [`Writer`](crate::storage::Writer), which runs inline on a
//! [`SimDisk`](crate::storage::disk::SimDisk): batches of registered producers and their retries,
//! leases, acks, records given back, cursors, transactions over topics, trims and retention,
//! registrations, births and ends of topics; underneath journal, rotation and merging.
//!
//! ```text
//!   workload --changes--> store --jobs--> Writer --> SimDisk: every moment is kept
//!                           |                           |
//!                        timeline: what was staged      | image: a cut at any moment, by dice
//!                        and announced, and when        v
//!                           '------------------> judge: is one of the flushes that may be
//!                                                there found whole, and nothing else?
//! ```
//!
//! [`power_cuts`] and [`failing_io`] are the tests; the others are the model that both use.

mod engine;
mod failing_io;
mod held;
mod images;
mod judge;
mod power_cuts;
mod store;
mod timeline;
mod workload;

use std::time::Duration;

use crate::storage::Options;

/// Small enough that a short workload fills the journal, rotates, merges and splits batches.
fn tiny(seed: u64) -> Options {
    Options {
        salt: 1,
        segment_bytes: 12 << 10,
        chunk_bytes: 2 << 10,
        flush_bytes: 64 << 10,
        journal_bytes: 24 << 10,
        journal_flush_bytes: 3 << 10,
        active_cache_bytes: 256 << 10,
        sealed_cache_bytes: 64 << 10,
        sealed_handles: 2,
        carry_bytes: 4 << 10,
        low_space_bytes: 0,
        ballast_bytes: 0,
        ahead_segments: usize::from(seed.is_multiple_of(3)),
        dead_bytes: 3 << 10,
        expired_wait: Duration::ZERO,
        merge_step_bytes: 2 << 10,
        // Nothing may depend on how fast a test runs.
        space_check_interval: Duration::from_hours(1),
        ..Options::default()
    }
}

/// Images of power cuts in all, unless `LOGDRIVE_CUTS` says another number.
const IMAGES: u64 = 20_000;
/// With `LOGDRIVE_CUTS=all`.
const ALL_IMAGES: u64 = 1_000_000;

/// How many images are wanted; the other tests grow and shrink with them.
fn wanted_images() -> u64 {
    match std::env::var("LOGDRIVE_CUTS") {
        Ok(text) if text == "all" => ALL_IMAGES,
        Ok(text) => text
            .parse()
            .expect("LOGDRIVE_CUTS is a number of images, or all"),
        Err(_) => IMAGES,
    }
}
