//! The storage as a task of one thread, where time is simulated.
//!
//! Owns the inbox of such a storage; what is done with it is the storage thread's own loop, and the
//! keeper does its chores inline. Its neighbours: [`thread`](super::thread), and the simulation.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, TryRecvError};
use std::time::Duration;

use tokio::sync::mpsc::{self, UnboundedReceiver, error};
use tokio::time::{sleep, timeout};

use super::disk::Disk;
use super::error::OpenError;
use super::options::Options;
use super::thread::{self, Inbox, Message};
use super::writer::Writer;
use super::{Handle, Outbox, Recovered};

/// The store of one simulated broker; dropping its task ends it as a kill does.
#[derive(Debug)]
pub(crate) struct Inline {
    handle: Handle,
    writer: Writer,
    inbox: Waiting,
    options: Options,
}

/// Messages that wait for the task.
#[derive(Debug)]
struct Waiting {
    messages: UnboundedReceiver<Message>,
    /// How long the next write takes.
    takes: fn() -> Duration,
}

impl Inline {
    /// Opens or creates the store in a directory; every write takes as long as `takes` says then.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        options: Options,
        takes: fn() -> Duration,
    ) -> Result<(Self, Recovered), OpenError> {
        let (writer, recovered) = Writer::open(disk, options.clone())?;
        let (inbox, messages) = mpsc::unbounded_channel();
        let handle = Handle {
            inbox: Outbox::Inline(inbox),
            reader: writer.reader(),
            health: writer.health(),
        };
        let inbox = Waiting { messages, takes };
        let store = Self {
            handle,
            writer,
            inbox,
            options,
        };
        Ok((store, recovered))
    }

    /// A handle for others.
    pub(crate) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Writes until it is told to close.
    pub(crate) async fn run(self) {
        thread::work(self.writer, self.inbox, &self.options).await;
    }

    /// Lets the task commit what is queued, close cleanly and end.
    pub(crate) fn close(handle: &Handle) {
        handle.send(Message::Close);
    }
}

impl Inbox for Waiting {
    async fn next(&mut self, within: Option<Duration>) -> Result<Message, RecvTimeoutError> {
        let next = match within {
            Some(within) => timeout(within, self.messages.recv()).await,
            None => Ok(self.messages.recv().await),
        };
        match next {
            Ok(Some(message)) => Ok(message),
            Ok(None) => Err(RecvTimeoutError::Disconnected),
            Err(_) => Err(RecvTimeoutError::Timeout),
        }
    }

    fn at_once(&mut self) -> Result<Message, TryRecvError> {
        self.messages.try_recv().map_err(|error| match error {
            error::TryRecvError::Empty => TryRecvError::Empty,
            error::TryRecvError::Disconnected => TryRecvError::Disconnected,
        })
    }

    async fn writing(&mut self) {
        sleep((self.takes)()).await;
    }
}
