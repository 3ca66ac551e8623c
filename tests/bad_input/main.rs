//! Bad input of every kind, over real sockets and in a real directory: each fault gets its own
//! clear error, a second connection goes on undisturbed, and nothing is lost.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod batches;
mod directory;
mod frames;
mod handshake;
mod noise;
mod text;

use logdrive_protocol::operations::{Operation, Ping};
use logdrive_protocol::{Failure, TopicId};

use support::{Broker, Connection};

/// Somebody who works on while others send what is wrong.
struct Bystander {
    peer: Connection,
    topic: TopicId,
    /// Records that were acknowledged.
    stored: u64,
}

impl Bystander {
    fn of(broker: &Broker) -> Self {
        let mut peer = broker.connect();
        let topic = peer.create("undisturbed");
        let stored = 0;
        let mut it = Self {
            peer,
            topic,
            stored,
        };
        it.goes_on();
        it
    }

    /// The connection is the same, records are taken, and none is lost.
    #[track_caller]
    fn goes_on(&mut self) {
        let value = format!("record {}", self.stored);
        assert_eq!(self.peer.produce(self.topic, &[&value]), self.stored);
        self.stored += 1;
        self.keeps_all();
    }

    #[track_caller]
    fn keeps_all(&mut self) {
        let records = self.peer.all(self.topic);
        assert_eq!(records.len() as u64, self.stored);
        for (offset, value) in records {
            assert_eq!(value, format!("record {offset}").as_bytes());
        }
    }

    /// Still so after the broker was killed.
    fn outlives(mut self, broker: Broker) {
        self.goes_on();
        let broker = broker.killed_and_restarted();
        self.peer = broker.connect();
        self.goes_on();
    }
}

/// An error must have this code and name its cause in these words.
#[track_caller]
fn names(failure: &Failure, code: &str, words: &str) {
    assert_eq!(
        failure.code.to_string(),
        code,
        "{failure}; {}",
        failure.hint
    );
    assert!(
        failure.message.contains(words),
        "{failure} does not say \"{words}\""
    );
}

/// A request must be refused so, and the connection goes on.
#[track_caller]
fn refused<O: Operation>(peer: &mut Connection, request: O, code: &str, words: &str)
where
    O::Answer: std::fmt::Debug,
{
    names(&peer.ask(request).unwrap_err(), code, words);
    assert_eq!(peer.ask(Ping {}).unwrap().state, 0);
}
