//! The storage thread: one inbox, one flush at a time.
//!
//! Owns the order in which jobs meet in flushes, and the retries after a failed commit. No timer
//! for jobs: while one flush syncs, the next one gathers in the inbox. Its neighbours: [`Storage`] sends,
//! the [`Writer`] does the work.
//!
//! The same loop runs on a thread, where nothing in it ever waits but the inbox itself, and as a task
//! where time is simulated: [`Inbox`] is what they differ in.
//!
//! [`Storage`]: super::Storage

use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use futures_util::FutureExt;
use logdrive_protocol::TopicId;
use tokio::time::Instant;

use super::flush::Flush;
use super::job::{Announce, Job};
use super::options::Options;
use super::writer::Writer;
use crate::planted::{self, Bug};

/// What reaches the storage thread.
#[derive(Debug)]
pub(super) enum Message {
    /// They meet in one flush.
    Jobs(Vec<Job>),
    Attach(TopicId, Announce),
    Close,
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    On,
    Closing,
}

/// Where messages come from, and how time passes there.
pub(super) trait Inbox {
    /// The next message; waits for ever without a time.
    async fn next(&mut self, within: Option<Duration>) -> Result<Message, RecvTimeoutError>;
    /// A message that is there.
    fn at_once(&mut self) -> Result<Message, TryRecvError>;
    /// Lets as much time pass as a write takes beyond what it takes by itself.
    async fn writing(&mut self);
}

/// A thread that sleeps until there is something to do.
impl Inbox for Receiver<Message> {
    async fn next(&mut self, within: Option<Duration>) -> Result<Message, RecvTimeoutError> {
        match within {
            Some(wait) => self.recv_timeout(wait),
            None => self.recv().map_err(RecvTimeoutError::from),
        }
    }

    fn at_once(&mut self) -> Result<Message, TryRecvError> {
        self.try_recv()
    }

    async fn writing(&mut self) {}
}

/// Writes until it is told to close, or nobody can send any more; blocks.
pub(super) fn run(writer: Writer, inbox: Receiver<Message>, options: &Options) {
    // An inbox that blocks is never pending.
    let _ = work(writer, inbox, options).now_or_never();
}

/// Writes until it is told to close, or nobody can send any more.
pub(super) async fn work(mut writer: Writer, mut inbox: impl Inbox, options: &Options) {
    // A start on a full disk reads, and writes when there is room.
    let mut flow = if writer.has_failed() {
        retry(&mut writer, &mut inbox, options).await
    } else {
        Flow::On
    };
    while flow == Flow::On {
        let mut flush = Flush::default();
        match inbox.next(writer.attends_in()).await {
            Ok(first) => flow = take(&mut writer, first, &mut flush),
            // What was done beside it is due, and joins a flush of nothing else.
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        while flow == Flow::On && flush.bytes < options.flush_bytes {
            match inbox.at_once() {
                Ok(message) => flow = take(&mut writer, message, &mut flush),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => flow = Flow::Closing,
            }
        }
        if planted::is(Bug::AckBeforeFsync) {
            writer.announce(&flush);
        }
        inbox.writing().await;
        writer.write(&flush);
        if writer.has_failed() && flow == Flow::On {
            flow = retry(&mut writer, &mut inbox, options).await;
        }
    }
    writer.stop();
}

fn take(writer: &mut Writer, message: Message, flush: &mut Flush) -> Flow {
    match message {
        Message::Jobs(jobs) => {
            for job in jobs {
                writer.admit(job, flush);
            }
        }
        Message::Attach(topic, announce) => writer.attach(topic, announce),
        Message::Close => return Flow::Closing,
    }
    Flow::On
}

/// Recovers, however often it takes, and meanwhile keeps the inbox empty.
async fn retry(writer: &mut Writer, inbox: &mut impl Inbox, options: &Options) -> Flow {
    let mut wait = Duration::ZERO;
    loop {
        if refuse_for(writer, inbox, wait).await == Flow::Closing {
            return Flow::Closing;
        }
        match writer.recover() {
            Ok(()) => return Flow::On,
            Err(error) => {
                wait = (wait * 2).clamp(options.retry_first, options.retry_longest);
                tracing::error!(%error, ?wait, "recovery failed and will be tried again");
            }
        }
    }
}

/// Takes messages for a while; every job among them is of a generation that has ended.
async fn refuse_for(writer: &mut Writer, inbox: &mut impl Inbox, wait: Duration) -> Flow {
    let until = Instant::now() + wait;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match inbox.next(Some(left)).await {
            Ok(message) => {
                let mut refused = Flush::default();
                if take(writer, message, &mut refused) == Flow::Closing {
                    return Flow::Closing;
                }
            }
            Err(RecvTimeoutError::Timeout) => return Flow::On,
            Err(RecvTimeoutError::Disconnected) => return Flow::Closing,
        }
    }
}
