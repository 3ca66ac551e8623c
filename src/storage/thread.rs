//! The storage thread: one inbox, one flush at a time.
//!
//! Owns the order in which jobs meet in flushes, and the retries after a failed commit. No timer
//! for jobs: while one flush syncs, the next one gathers in the inbox. Its neighbours: [`Storage`] sends,
//! the [`Writer`] does the work.
//!
//! [`Storage`]: super::Storage

use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use logdrive_protocol::TopicId;

use super::flush::Flush;
use super::job::{Announce, Job};
use super::options::Options;
use super::writer::Writer;

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

/// Writes until it is told to close, or nobody can send any more.
pub(super) fn run(mut writer: Writer, inbox: &Receiver<Message>, options: &Options) {
    // A start on a full disk reads, and writes when there is room.
    let mut flow = if writer.has_failed() {
        retry(&mut writer, inbox, options)
    } else {
        Flow::On
    };
    while flow == Flow::On {
        let mut flush = Flush::default();
        let next = match writer.attends_in() {
            Some(wait) => inbox.recv_timeout(wait),
            None => inbox.recv().map_err(RecvTimeoutError::from),
        };
        match next {
            Ok(first) => flow = take(&mut writer, first, &mut flush),
            // What was done beside it is due, and joins a flush of nothing else.
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        while flow == Flow::On && flush.bytes < options.flush_bytes {
            match inbox.try_recv() {
                Ok(message) => flow = take(&mut writer, message, &mut flush),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => flow = Flow::Closing,
            }
        }
        writer.write(&flush);
        if writer.has_failed() && flow == Flow::On {
            flow = retry(&mut writer, inbox, options);
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
fn retry(writer: &mut Writer, inbox: &Receiver<Message>, options: &Options) -> Flow {
    let mut wait = Duration::ZERO;
    loop {
        if refuse_for(writer, inbox, wait) == Flow::Closing {
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
fn refuse_for(writer: &mut Writer, inbox: &Receiver<Message>, wait: Duration) -> Flow {
    let until = Instant::now() + wait;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match inbox.recv_timeout(left) {
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
