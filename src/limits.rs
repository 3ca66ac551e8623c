//! Every bound of the broker that is not already told to clients in the preface.
//!
//! What both sides must keep stands in [`logdrive_protocol::limits`].

use std::time::Duration;

use logdrive_protocol::limits::{IDLE_MS, MAX_FRAME_BYTES, WINDOW_BYTES};

/// Share of a connection's window that requests may hold; the other half is for answers, so that
/// requests that wait can always be answered.
pub const WINDOW_REQUEST_BYTES: u32 = WINDOW_BYTES / 2;
/// Share of a connection's window that answers may hold.
pub const WINDOW_ANSWER_BYTES: u32 = WINDOW_BYTES / 2;
/// What a request costs of the window at least, in bytes: its place in queues and tables.
pub const REQUEST_COST_BYTES: u32 = 512;

/// Requests of all connections together, in bytes (160 MiB of the broker's 512).
pub const BUDGET_REQUEST_BYTES: usize = 160 << 20;
/// What has arrived of long frames and lines of all connections together, in bytes (24 MiB of the
/// broker's 512); where all of it is taken, one at a time may be read to its end beside it, which
/// takes 8 MiB more.
pub const BUDGET_ARRIVING_BYTES: usize = 24 << 20;
/// Of a frame or a line so many bytes take no part of that; it is not much more than one read brings.
pub const LONG_FRAME_BYTES: usize = 16 << 10;
/// Answers of all connections together, in bytes (192 MiB of the broker's 512).
pub const BUDGET_ANSWER_BYTES: usize = 192 << 20;
/// A connection's answers may hold one part in so many of what is free of them.
pub const FREE_ANSWER_SHARE: usize = 4;
/// Batches that topics keep in memory, all together, in bytes (64 MiB of the broker's 512; what is
/// left of it is for the caches of segments).
pub const BUDGET_TAIL_BYTES: usize = 64 << 20;
/// Batches that one topic keeps in memory, in bytes.
pub const TAIL_BYTES: usize = 8 << 20;
/// A topic in which nothing is appended for so long gives its tail back.
pub const TAIL_IDLE: Duration = Duration::from_secs(10);
/// Batches shorter than this are copied out of the read buffer that they would pin.
pub const COPY_BATCH_BYTES: usize = 4 << 10;

/// Requests of one connection that are not answered, at most: what their cost leaves of its window.
pub const MAX_REQUESTS: u32 = WINDOW_REQUEST_BYTES / REQUEST_COST_BYTES;

/// Connections at once; one more is closed as soon as it is accepted.
pub const MAX_CONNECTIONS: usize = 20_000;
/// Those of one address: an IPv4 address, or the first 64 bits of an IPv6 one. This machine's own
/// may have all, unless `logdrive serve` is told otherwise.
pub const MAX_CONNECTIONS_PER_ADDRESS: usize = 1_000;
/// Open files that are not for connections, at least: the store needs them.
pub const RESERVED_FILES: usize = 1_024;
/// Connections that are accepted at once after a quiet time, of all addresses.
pub const ACCEPT_BURST: u32 = 64;
/// Connections that are accepted in a second beyond that; others wait in the system's queue.
pub const ACCEPTS_PER_SECOND: u32 = 1_000;
/// The same for one address that is not this machine's own: a burst.
pub const ADDRESS_BURST: u32 = 256;
/// The same for one address: in a second. Those beyond it are accepted, but served later.
pub const ADDRESS_ACCEPTS_PER_SECOND: u32 = 200;
/// How long accepting pauses at least, once it does.
pub const ACCEPT_STEP: Duration = Duration::from_millis(5);
/// Connections that have not said anything yet; one more, and the oldest of them is closed.
pub const MAX_SILENT: usize = 1_024;
/// How often it is logged that connections were refused, with their number.
pub const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(10);
/// How long a connection may send nothing at all.
pub const FIRST_BYTE_WAIT: Duration = Duration::from_mins(1);
/// How long the preface may take once its first byte has arrived; a TLS handshake before it has the
/// same time.
pub const PREFACE_WAIT: Duration = Duration::from_secs(5);
/// Bytes that TLS holds back of what a connection sends, before the connection waits (64 KiB).
pub const TLS_BUFFER_BYTES: usize = 64 << 10;
/// Bytes that are read of a peer whose TLS handshake has failed, so that it can read why (64 KiB).
pub const TLS_UNREAD_BYTES: u64 = 64 << 10;
/// Whatever was begun must go on with so many bytes in a second, on average over its wait.
pub const SLOWEST_BYTES_PER_SECOND: u32 = 1 << 10;
/// How long a frame that was begun may take, or the next [`SLOWEST_BYTES_PER_SECOND`] for so long.
pub const FRAME_WAIT: Duration = Duration::from_secs(10);
/// The same for a line in text mode, which a person may be typing.
pub const LINE_WAIT: Duration = Duration::from_secs(30);
/// How often it is looked whether a long frame or line keeps others from arriving.
pub const LONG_FRAME_WAIT: Duration = Duration::from_secs(2);
/// What a long frame or line must bring in a second while others wait for the room that it holds.
pub const SLOWEST_WANTED_BYTES_PER_SECOND: u32 = 256 << 10;
/// A binary connection on which nothing is said for so long, and nothing waits, is ended.
pub const IDLE: Duration = Duration::from_millis(IDLE_MS as u64);
/// The shortest such time that may be set.
pub const SHORTEST_IDLE: Duration = Duration::from_millis(100);
/// The longest.
pub const LONGEST_IDLE: Duration = Duration::from_hours(24);
/// How long a person may think between two text commands.
pub const TEXT_IDLE: Duration = Duration::from_mins(30);
/// How long a program may take to log in, once its preface has arrived.
pub const LOGIN_WAIT: Duration = Duration::from_secs(5);
/// How long a person may take to log in.
pub const TEXT_LOGIN_WAIT: Duration = Duration::from_mins(1);
/// Longest text command of who is not logged in, in bytes.
pub const MAX_LOGIN_LINE_BYTES: usize = 4 << 10;
/// How long the answer to a login that failed is held back.
pub const LOGIN_FAILURE_DELAY: Duration = Duration::from_secs(1);
/// Logins of one address that may fail before it is not heard any more; IPv6 addresses count by
/// their first 64 bits.
pub const MAX_LOGIN_FAILURES: u32 = 20;
/// How long it takes until one of them is forgotten.
pub const LOGIN_FAILURE_FORGOTTEN: Duration = Duration::from_secs(6);
/// Addresses whose failures are remembered.
pub const MAX_LOGIN_ADDRESSES: usize = 10_000;
/// Passwords typed in text mode from which keys are derived at once.
pub const DERIVING_THREADS: usize = 2;
/// What a principal may use at once of what it may use in a second.
pub const QUOTA_BURST: Duration = Duration::from_secs(1);
/// How long a principal that uses too much is made to wait, for one request.
pub const QUOTA_WAIT: Duration = Duration::from_secs(10);
/// What a record counts, beside its bytes, of what a principal may have stored: one without a byte
/// takes room too.
pub const STORED_RECORD_BYTES: u64 = 16;
/// Principals of one broker.
pub const MAX_PRINCIPALS: usize = 1_000;

/// How long a peer may take to read an answer, or the next [`SLOWEST_BYTES_PER_SECOND`] for so long.
pub const WRITE_STALL: Duration = Duration::from_secs(30);
/// How long it may read nothing while others wait for the budget of answers that it holds.
pub const WRITE_STALL_WANTED: Duration = Duration::from_secs(2);
/// How often a stalled writer looks whether others wait.
pub const WRITE_STALL_STEP: Duration = Duration::from_millis(500);
/// Answers that one vectored write takes together.
pub const WRITE_BATCH: usize = 64;
/// Answers that leave together and are longer than this are written in turn with other long ones.
pub const LONG_ANSWER_BYTES: usize = 16 << 10;
/// Bytes of one write, after which the connection looks for what its peer has sent meanwhile.
pub const WRITE_PIECE_BYTES: usize = 512 << 10;
/// The same where others are in the middle of long answers too.
pub const SHARED_PIECE_BYTES: usize = 256 << 10;
/// Bytes that the system takes of a connection ahead of what it can send: what a peer that reads
/// nothing costs there, beside what its own end takes.
pub const UNSENT_BYTES: u32 = 512 << 10;
/// Longest text command, in bytes.
pub const MAX_LINE_BYTES: usize = 1 << 20;
/// Records of one text answer.
pub const MAX_TEXT_RECORDS: u32 = 10_000;
/// Room for the first bytes of a connection, held until it is known who is there: enough for what a
/// stranger may send at once, since closing with bytes unread would take the answer back.
pub const FIRST_READ_BYTES: usize = 8 << 10;
/// Most bytes that one read takes while no frame is begun; they are kept only as far as they came.
pub const READ_SCRATCH_BYTES: usize = 16 << 10;
/// Topics whose addresses a connection remembers; beyond it, it forgets them all and asks again, and
/// all topics of the broker are told of its end.
pub const MAX_CACHED_ROUTES: usize = 16_384;

/// Free space on the disk, in bytes, below which nothing new is taken (128 MiB), unless the operator
/// says otherwise; it is taken again at twice as much.
pub const LOW_SPACE_BYTES: u64 = 128 << 20;
/// Space held back in a file, in bytes, and given up when there is little left, so that what frees
/// space or moves cursors goes on (64 MiB); at most half of the mark above.
pub const BALLAST_BYTES: u64 = 64 << 20;

/// Topics of one broker.
pub const MAX_TOPICS: usize = 100_000;
/// Registered producers of one topic.
pub const MAX_PRODUCERS: usize = 10_000;
/// Registered consumers of one topic.
pub const MAX_CONSUMERS: usize = 1_000;
/// Workers that a consumer knows.
pub const MAX_WORKERS: usize = 64;
/// A worker idle for so long makes room for another.
pub const WORKER_IDLE: Duration = Duration::from_hours(1);
/// An unnamed producer idle for so long is forgotten.
pub const UNNAMED_PRODUCER_IDLE: Duration = Duration::from_hours(24);
/// A named producer idle for so long is forgotten.
pub const NAMED_PRODUCER_IDLE: Duration = Duration::from_hours(7 * 24);
/// Records of one consumer that may be delivered and not acked, at most.
pub const MAX_LEASED: u64 = 100_000;
/// Records of one consumer that are not acked and lie before those it was never given: no more are
/// put back by a requeue.
pub const MAX_OUTSTANDING: u64 = 200_000;
/// Records that may be delivered and not acked, where the consumer's settings do not say.
pub const DEFAULT_MAX_LEASED: u64 = 10_000;
/// Deliveries after which a consumer may give a record up, at most.
pub const MAX_MAX_DELIVERIES: u64 = 1_000;
/// Durations in a back-off list.
pub const MAX_BACKOFFS: usize = 16;
/// The longest of them.
pub const MAX_BACKOFF: Duration = Duration::from_hours(24);
/// How long a worker whose connection is gone may take to speak again on another, before its leases
/// are given back.
pub const RECLAIM_WAIT: Duration = Duration::from_secs(5);
/// How soon leases are looked at again while nothing can be written.
pub const LEASE_RETRY: Duration = Duration::from_secs(1);
/// Records that may be set aside because their keys are busy: how far a consumer that keeps the
/// order of keys looks ahead.
pub const LOOK_AHEAD_RECORDS: u64 = 10_000;
/// The same in bytes (16 MiB).
pub const LOOK_AHEAD_BYTES: u64 = 16 << 20;
/// Records that such a consumer looks at in one go at least, however few are asked for.
pub const LOOK_FOR_KEYS_RECORDS: u32 = 1_000;
/// Records that are given up together.
pub const BURY_RECORDS: usize = 256;
/// Bytes that a dead letter may be longer than the longest record: what it says of its origin.
pub const DEAD_LETTER_HEAD_BYTES: u32 = 4 << 10;
/// The same in bytes (1 MiB): a batch for the dead-letter topic.
pub const BURY_BYTES: usize = 1 << 20;
/// How long records that could not be given up wait for the next attempt; it doubles from there.
pub const BURY_RETRY_FIRST: Duration = Duration::from_millis(500);
/// The longest such wait.
pub const BURY_RETRY_LONGEST: Duration = Duration::from_mins(1);
/// Records of one requeue.
pub const MAX_REQUEUED: u64 = 10_000;
/// Gaps that a consumer has not been told of; further ones are joined to the last.
pub const MAX_GAPS: usize = 64;
/// Fetches and consumes that wait for records in one topic.
pub const MAX_WAITING: usize = 100_000;
/// Requests that wait in one topic, up to which consumes among them are served when records are
/// staged; of more, all are served together, when the records are durable.
pub const MAX_EAGER_WAITING: usize = 16;
/// How long a request that appends to several topics may be on its way to the last of them.
pub const TRAVEL_WAIT: Duration = Duration::from_secs(5);
/// Requests that wait in one topic for such a request to end.
pub const MAX_BEHIND_TRAVELLER: usize = 4_096;
/// How far ahead a batch may be scheduled.
pub const MAX_DELAY: Duration = Duration::from_hours(366 * 24);
/// Batches of one topic that wait for their time.
pub const MAX_DELAYED_BATCHES: usize = 10_000;
/// Their bytes, as stored (256 MiB).
pub const MAX_DELAYED_BYTES: u64 = 256 << 20;
/// Bytes of batches that are taken from a delay log at a time, but always one batch (4 MiB).
pub const MAX_DUE_BYTES: usize = 4 << 20;
/// Batches that are taken from a delay log at a time.
pub const MAX_DUE_BATCHES: usize = 256;
/// How long a batch that fell due and cannot be appended now waits for the next try.
pub const DUE_RETRY: Duration = Duration::from_secs(1);
/// The same for one that is damaged on the disk.
pub const DAMAGED_DUE_RETRY: Duration = Duration::from_mins(10);
/// A delay log in which nothing waits is removed once it holds so many bytes (1 MiB), or when it was
/// idle for [`CLEAR_DELAY_LOG_IDLE`].
pub const CLEAR_DELAY_LOG_BYTES: u64 = 1 << 20;
/// See [`CLEAR_DELAY_LOG_BYTES`].
pub const CLEAR_DELAY_LOG_IDLE: Duration = Duration::from_hours(1);
/// Ids that the broker reserves durably at a time, before it hands them out.
pub const RESERVED_IDS: u64 = 100;

/// Threads that read cold records, and what else blocks, at once.
pub const BLOCKING_THREADS: usize = 8;
/// How many of them may match records against filters, which keeps a processor busy.
pub const SEARCHING_THREADS: usize = 2;
/// Bytes that a fetch with a filter looks through before it answers (32 MiB).
pub const SEARCH_BYTES: usize = 32 << 20;
/// How long it keeps a thread before it answers, looked at between records, every 64 KiB.
pub const SEARCH_TIME: Duration = Duration::from_millis(250);
/// Bytes that it reads from the disk at a time (2 MiB).
pub const SEARCH_READ_BYTES: usize = 2 << 20;
/// Records that a consume with a filter looks through first: where much matches, it needs no more.
pub const SEARCH_FIRST_RECORDS: u32 = 10_000;
/// Batches of a topic's memory that it looks at in one go.
pub const SEARCH_BATCHES: usize = 4_096;
/// Ranges that an answer to it names, and one to a consume with a filter.
pub const MAX_RANGES: usize = 16_384;
/// A batch of which at most one in so many bytes matches is rebuilt without the rest.
pub const REBUILD_SHARE: u64 = 8;
/// Shorter batches are sent as they are stored.
pub const REBUILD_BYTES: usize = 4 << 10;
/// A filter's regular expression, compiled, in bytes (512 KiB).
pub const GREP_BYTES: usize = 512 << 10;
/// What it keeps of its states while it matches, in bytes (512 KiB).
pub const GREP_CACHE_BYTES: usize = 512 << 10;
/// Fetches with a regular expression that wait for records, of all topics: each may hold both of
/// the above.
pub const MAX_WAITING_GREPS: usize = 128;
/// How long a stop waits for answers that are on their way.
pub const STOP_WAIT: Duration = Duration::from_secs(10);

/// Longest frame, in bytes after its length field.
pub const FRAME_BYTES: u32 = MAX_FRAME_BYTES;

/// What `logdrive serve` may be told of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Connections at once.
    pub connections: usize,
    /// Those of one address, this machine's own too; `None` for the defaults.
    pub per_address: Option<usize>,
    /// A binary connection on which nothing is said for so long is ended; zero for never.
    pub idle: Duration,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            connections: MAX_CONNECTIONS,
            per_address: None,
            idle: IDLE,
        }
    }
}

impl Admission {
    /// Connections of one address that is not this machine's own.
    pub fn of_address(&self) -> usize {
        let limit = self.per_address.unwrap_or(MAX_CONNECTIONS_PER_ADDRESS);
        limit.min(self.connections)
    }

    /// The idle time as the preface says it.
    pub fn idle_ms(&self) -> u32 {
        u32::try_from(self.idle.as_millis()).unwrap_or(u32::MAX)
    }
}

/// Threads that serve connections: one for each core but one, at least one.
pub fn connection_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    cores.saturating_sub(1).max(1)
}
