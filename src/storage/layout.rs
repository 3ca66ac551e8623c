//! The bytes inside a segment.

/// Bytes of batches in a chunk that fills 1 MiB with its row head and redb's own.
pub const FULL_CHUNK_BYTES: usize = (1 << 20) - 128;
