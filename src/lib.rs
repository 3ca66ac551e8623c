//! The logdrive broker, its command line, and how they are built: this page is the architecture.
//!
//! A length-prefixed frame comes off a socket, a connection's actor hands it to the one actor of its
//! topic, the topic gives it offsets and hands it to the storage thread, and what one fsync has put
//! on disk is answered. All state has one owner; whoever wants something of it sends a message.
//! There are no locks. What a user is promised stands in `README.md`, what goes over the wire in
//! `PROTOCOL.md`, and the words used here in its chapter *Names and words*.
//!
//! ```text
//!                       names                                     one thread
//!                  +--> broker                                +-------------------+
//!   socket --> connection --> topic --> changes to stage ---> | storage  --> redb |--> segments
//!     ^            .            |  ^                          +-------------------+       |
//!     '-- writer <-+-- Reply <--'  '---- Committed { ticket } ------'     cold reads <----'
//! ```
//!
//! # One Produce, stop by stop
//!
//! | # | where | what happens | handed to |
//! |---|---|---|---|
//! | 1 | [`connection`] | the codec yields a frame; a [permit](window::Permit) for its bytes is taken; it becomes a [`Request`] with a [`Reply`] | topic |
//! | 2 | [`topic`] | [`State::produce`] checks the batch, recognizes a retry and gives offsets; the change is *staged*, the reply parked under the change's ticket | storage thread |
//! | 3 | [`storage`] | the change joins the flush that is being gathered: one redb transaction or, where it is small, one entry of the journal, and one fsync; then [`Committed`] names the ticket | topic |
//! | 4 | [`topic`] | the high watermark moves; the reply is answered; fetches and consumes that waited are served | writer |
//! | 5 | [`connection`] | the answer is written with whatever else is ready; the permit goes back | socket |
//!
//! Nothing travels back the way it came. A Fetch leaves at stop 2 when its records are in the topic's
//! memory, and otherwise goes through [`pool`] to a [`Reader`]. A Consume reads first, then stages the
//! cursor's move, and is answered by that move's commit.
//!
//! # Three ideas that carry it
//!
//! - **[`Reply`]**: the duty to answer is a value. Answering consumes it; dropping it answers too,
//!   `UNAVAILABLE` before it was [staged](reply::Reply::staged) and `OUTCOME_UNKNOWN` after. So nobody waits
//!   for anybody, every request is answered exactly once, and stopping is dropping.
//! - **[`Permit`](window::Permit)**: a request holds a share of its connection's [`Window`] and of the
//!   broker's [`Budget`] from its admission until its answer is on the wire. Actor mailboxes and
//!   channels need no bound of their own: what is in them is counted here. At the first frame
//!   without a share a connection stops reading, and TCP pushes back. Answers have a share of their
//!   own, so that requests which wait for records cannot use up what their answers need.
//! - **[`Committed`]**: whatever a topic stages (records, a cursor's move, a registration) gets the
//!   topic's next ticket, and one notice answers everything up to a ticket. Today the storage thread
//!   sends it after the fsync; a replicated log would send it after its quorum, and nothing else in
//!   a topic would change. The notices carry the store's *generation*: after [`Failed`] what is
//!   parked is answered `OUTCOME_UNKNOWN`, and with [`Reloaded`] the topic goes on from what is on
//!   disk.
//!
//! # Who owns what
//!
//! | state | sole owner | reached by |
//! |---|---|---|
//! | a socket's read half, its window, addresses of topics | [`Connection`] | its stream of frames, or its [text session](connection) |
//! | a socket's write half | the connection's writer, a task | [`Reply`] |
//! | names and ids, and where their topics live | [`Broker`], never on the path of records | [`Ask`], and [`Locate`] once for each connection and topic |
//! | offsets, cursors, leases, workers, sequences, the newest batches, who waits | [`Topic`] | [`Call`], [`Notice`] |
//! | the write transaction, the active segment | the storage thread's [`Writer`] | [`Job`] |
//! | sealed segments and their merging, free space | the storage's keeper, a thread | chores |
//! | a snapshot for reading | whoever reads | a cloned [`Reader`] |
//! | the data directory and its lock | [`Disk`] | |
//! | who may come in | the [`listener`]'s [`gate`] | accepting |
//! | principals | [`Broker`]; what is durable is published | [`access::Directory`] |
//! | counters | who counts; [`counters`] for the whole | atomics |
//!
//! A topic is two things: [`topic::state`], [`topic::log`], [`topic::producers`],
//! [`topic::consumers`], [`topic::retention`], [`topic::filter`] and [`topic::waiting`] are plain
//! structs without actor, runtime or clock, and could as well be the state machine of a replicated
//! log; [`topic::actor`] and the files beside it that name `Topic` are the shell that translates
//! messages, parks replies and reads the clock.
//!
//! A leased record: [`topic::consuming`] reads, [`topic::consumer`] chooses what this worker may have
//! and moves it into a parcel of its own, and the answer leaves when that is durable. An ack takes
//! it out of the parcel; a deadline, a nack or a lost connection gives it back; too many of these
//! lead through the broker to the topic of dead letters, in one transaction with the ack.
//! [`topic::together`] is how several topics agree on one transaction: a traveller visits them in
//! ascending id, and only the last one decides.
//!
//! # Where things are
//!
//! ```text
//! main --> cli --> server --> connection, broker --> topic --> storage --> logdrive_protocol
//!           '----> logdrive_client ------------------------------------------^
//! ```
//!
//! Imports point one way. Beside that line stand what several rooms use: [`access`], [`reply`], [`window`], [`account`],
//! [`clock`], [`counters`], [`pool`], [`suggest`], and [`limits`], where every bound has its name, unit
//! and default. [`net`] is the only place that names socket types, and [`tls`] puts an encrypted one in
//! their place, on the same port. [`history`] checks what clients
//! have seen and knows nothing of the broker: `logdrive demo` and the tests that kill a broker are
//! judged by it. [`storage::verify`] looks for damage where no broker runs: `logdrive verify`.
//!
//! Who may do what is decided in one place, before a request leaves its connection, by what
//! [`access`] says of the principal that is logged in. A topic knows nothing of it.
//!
//! What a broker stands on (disk, store, pool, time of day) comes in from outside, as its
//! [`Ground`], and connections run over anything that carries bytes. So the crate's own tests run
//! broker, clients and checker on one thread, where network, disk and time are simulated from a seed
//! (`src/simulation`), and show with bugs that are planted that they find them.
//!
//! To follow one request, read [`connection`], [`topic::actor`], [`topic::state`], then [`storage`]. A
//! new operation begins in [`logdrive_protocol::operations`] and in `PROTOCOL.md`, whose test names
//! what is missing; the compiler then leads through [`connection`] and [`topic`] or [`broker`].
//!
//! # Copies
//!
//! A batch is opaque from the client to the disk and to the consumer. It is split off the socket's
//! buffer, checked once, the broker's part of its head is written in place, and it is frozen: the
//! same bytes are in the topic's memory, in the page on disk and in every answer. Batches of a few
//! KiB are copied out first, so that they pin no read buffer. Memory does not grow with what is
//! stored.
//!
//! # What never happens
//!
//! - Nothing is answered as `synced` before it is on disk, and nothing is visible before that.
//! - No request is answered twice, and none is left without an answer.
//! - No connection waits for another, and a slow reader stops only itself.
//! - The broker actor is not on the path of records.
//! - `logdrive_protocol` does no I/O; [`storage`] knows no actor; the logic of topics has no clock.
//! - actix appears in [`server`], [`connection`], [`broker`] and the shell of [`topic`], nowhere else.
//! - Nothing is allocated from a length that somebody has sent.
//! - A bad request does not end a connection; a lost boundary between frames does.
//! - A segment that was found after a crash, or in which a commit has failed, is never written again.
//! - Nothing is staged behind a topic's deletion.
//!
//! [`Ask`]: broker::Ask
//! [`Broker`]: broker::Broker
//! [`Budget`]: window::Budget
//! [`Call`]: topic::Call
//! [`Committed`]: storage::Notice::Committed
//! [`Connection`]: connection::Connection
//! [`Disk`]: storage::Disk
//! [`Failed`]: storage::Notice::Failed
//! [`Ground`]: broker::Ground
//! [`Job`]: storage::Job
//! [`Locate`]: broker::Locate
//! [`Notice`]: storage::Notice
//! [`Reader`]: storage::Reader
//! [`Reloaded`]: storage::Notice::Reloaded
//! [`Reply`]: reply::Reply
//! [`Request`]: logdrive_protocol::operations::Request
//! [`State::produce`]: topic::state::State::produce
//! [`Topic`]: topic::Topic
//! [`Window`]: window::Window
//! [`Writer`]: storage::Writer

pub mod access;
pub mod account;
pub mod broker;
pub mod cli;
pub mod clock;
pub mod connection;
pub mod counters;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod gate;
pub mod history;
pub mod limits;
pub mod listener;
pub mod net;
mod planted;
pub mod pool;
pub mod reply;
pub mod server;
#[cfg(test)]
mod simulation;
pub mod storage;
pub mod suggest;
pub mod tls;
pub mod topic;
pub mod window;

/// The code of README.md is compiled with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
