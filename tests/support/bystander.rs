//! A peer that does honest work on one connection, and notices when it is disturbed.

use logdrive_protocol::TopicId;

use super::{Broker, Connection};

/// Somebody who works on while others send what is wrong, or too much.
pub(crate) struct Bystander {
    pub(crate) peer: Connection,
    pub(crate) topic: TopicId,
    /// Records that were acknowledged.
    pub(crate) stored: u64,
}

impl Bystander {
    pub(crate) fn of(broker: &Broker) -> Self {
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
    pub(crate) fn goes_on(&mut self) {
        let value = format!("record {}", self.stored);
        assert_eq!(self.peer.produce(self.topic, &[&value]), self.stored);
        self.stored += 1;
        self.keeps_all();
    }

    #[track_caller]
    pub(crate) fn keeps_all(&mut self) {
        let records = self.peer.all(self.topic);
        assert_eq!(records.len() as u64, self.stored);
        for (offset, value) in records {
            assert_eq!(value, format!("record {offset}").as_bytes());
        }
    }

    /// Still so after the broker was killed.
    pub(crate) fn outlives(mut self, broker: Broker) {
        self.goes_on();
        let broker = broker.killed_and_restarted();
        self.peer = broker.connect();
        self.goes_on();
    }

    pub(crate) fn counter(&mut self, name: &str) -> u64 {
        self.peer.counter("", name)
    }
}
