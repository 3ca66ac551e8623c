//! The limits that both sides must know, with their defaults; the broker tells its own in the preface.

/// Longest frame, in bytes after its length field (8 MiB): a quarter of the window.
pub const MAX_FRAME_BYTES: u32 = 8 << 20;
/// Bytes of requests and answers that one connection may have under way (32 MiB).
pub const WINDOW_BYTES: u32 = 32 << 20;
/// Longest record batch, in bytes with its head (4 MiB).
pub const MAX_BATCH_BYTES: u32 = 4 << 20;
/// Longest records section of a batch once it is unpacked, in bytes (4 MiB): packing makes no batch
/// possible that would be too long without.
pub const MAX_UNPACKED_BYTES: u32 = MAX_BATCH_BYTES;
/// Most that the packed batches of one answer unpack to, in bytes (36 MiB): the first whatever it
/// is, and behind it four times what may be asked for.
pub const MAX_UNPACKED_ANSWER_BYTES: u32 = MAX_UNPACKED_BYTES + 4 * MAX_FRAME_BYTES;
/// Largest record: key, headers and value together, in bytes (1 MiB).
pub const MAX_RECORD_BYTES: u32 = 1 << 20;
/// Batches of one producer whose durable answer is outstanding; also how many the broker remembers.
pub const MAX_BATCHES_IN_FLIGHT: u32 = 64;
/// Batches of one request that appends to several topics, and consumers that it acks for.
pub const MAX_PARTS: usize = 64;
/// Longest wait of a fetch or consume, in milliseconds (5 minutes).
pub const MAX_WAIT_MS: u32 = 300_000;
/// A connection on which nothing is said for so long may be ended, in milliseconds (5 minutes).
pub const IDLE_MS: u32 = 300_000;
/// Longest lease, in milliseconds (12 hours).
pub const MAX_LEASE_MS: u32 = 43_200_000;
/// Elements of one Ack or Nack, and ranges of one Requeue.
pub const MAX_SETTLED: usize = 1000;
/// Longest name of a topic, producer or consumer, in bytes.
pub const MAX_NAME_BYTES: usize = 128;
/// Settings of one topic or consumer.
pub const MAX_SETTINGS: usize = 32;
/// Longest value of a setting, in bytes.
pub const MAX_SETTING_BYTES: usize = 256;
/// Longest glob in a list request, in bytes.
pub const MAX_GLOB_BYTES: usize = 256;
/// Elements of one list answer.
pub const MAX_LIST: u32 = 1000;
/// Elements of one list answer when the request names no limit.
pub const DEFAULT_LIST: u32 = 100;
/// Bytes of one fetch or consume answer when the request names no limit (1 MiB).
pub const DEFAULT_FETCH_BYTES: u32 = 1 << 20;
/// Room kept in an answer's frame for everything that is not a batch.
pub const ANSWER_HEAD_BYTES: u32 = 64 << 10;
/// Longest answer body that a fetch or consume may ask for: what a frame holds beside its head.
pub const MAX_FETCH_BYTES: u32 = MAX_FRAME_BYTES - ANSWER_HEAD_BYTES;
/// Longest frame before a connection is logged in, in bytes after its length field (4 KiB).
pub const MAX_LOGIN_FRAME_BYTES: u32 = 4 << 10;
/// Longest message of SCRAM, in bytes.
pub const MAX_SCRAM_BYTES: usize = 1 << 10;
/// Rounds of PBKDF2 in every verifier: the same for all, so that they tell no user from nobody.
pub const SCRAM_ITERATIONS: u32 = 65_536;
/// Fewest rounds that a client derives a key with: fewer would make guessing cheap for whoever asks
/// for them.
pub const MIN_SCRAM_ITERATIONS: u32 = 4_096;
/// Most rounds that a client derives a key with: more would keep it busy for whoever asks for them.
pub const MAX_SCRAM_ITERATIONS: u32 = 4_194_304;
/// Bytes of a verifier's salt.
pub const SALT_BYTES: usize = 16;
/// Longest password, in bytes.
pub const MAX_PASSWORD_BYTES: usize = 512;
/// Grants of one principal.
pub const MAX_GRANTS: usize = 64;
/// Tokens of one principal.
pub const MAX_TOKENS: usize = 16;
/// Principals of one list answer.
pub const MAX_PRINCIPALS_LISTED: u32 = 100;
