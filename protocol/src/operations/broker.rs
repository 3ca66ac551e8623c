//! Operations that concern the broker as a whole, and its notices.

use crate::body::bodies;
use crate::ids::{NodeId, TopicId};

use super::topic::Setting;

bodies! {
    /// Says who the client is and asks who the broker is.
    pub struct Hello {
        /// The client's name, for the broker's diagnostics; may be empty.
        pub client: String,
        /// The client's version; may be empty.
        pub version: String,
    }

    /// Who the broker is.
    pub struct Greeted {
        /// `logdrive`.
        pub broker: String,
        /// Version of the software.
        pub version: String,
        /// Which cluster; all zero for a broker that stands alone.
        pub cluster: [u8; 16],
        /// Which broker.
        pub node: NodeId,
        /// When it started, in microseconds since 1970 UTC.
        pub started_at: u64,
        /// Its limits by name, in the units that PROTOCOL.md states.
        pub limits: Vec<Setting>,
    }

    /// Asks whether the broker is there and what it can do now.
    pub struct Ping {}

    /// The broker's state.
    pub struct Pinged {
        /// 0 = all is well, 1 = `LOW_SPACE`, 2 = `STORAGE_FAILED`.
        pub state: u8,
        /// The broker's clock, in microseconds since 1970 UTC.
        pub now: u64,
        /// Bytes that may still be written.
        pub free_bytes: u64,
    }

    /// Asks where topics are served; names are looked up, in the order given.
    pub struct Metadata {
        /// At most 1000 names.
        pub topics: Vec<String>,
    }

    /// Brokers and topics.
    pub struct Located {
        /// All brokers; one, for a broker that stands alone.
        pub nodes: Vec<Node>,
        /// One for each name asked for.
        pub topics: Vec<TopicPlace>,
    }

    /// One broker.
    pub struct Node {
        /// Which broker.
        pub id: NodeId,
        /// Where it listens.
        pub address: String,
    }

    /// One topic.
    pub struct TopicPlace {
        /// Its name.
        pub name: String,
        /// Its id; 0 if there is no such topic.
        pub id: TopicId,
        /// The broker that leads it.
        pub leader: NodeId,
        /// The leader's epoch; 0 without a cluster.
        pub leader_epoch: u64,
    }

    /// Withdraws a fetch or consume of this connection that waits for records.
    pub struct Cancel {
        /// The topic it was sent to.
        pub topic: TopicId,
        /// Its correlation id.
        pub correlation: u32,
    }

    /// The cancel was passed on; the withdrawn request is answered by itself.
    pub struct CancelPassed {}

    /// Asks for counters.
    pub struct Stats {
        /// A topic's name; empty for the broker's own.
        pub topic: String,
    }

    /// Counters since the broker started.
    pub struct Counted {
        /// In a stable order.
        pub counters: Vec<Counter>,
    }

    /// One counter.
    pub struct Counter {
        /// Its name.
        pub name: String,
        /// Its value.
        pub value: u64,
    }

    /// Notice: the broker stops; requests sent from now on are refused.
    pub struct GoingAway {
        /// Milliseconds until it closes the connection.
        pub deadline_ms: u32,
        /// Why, for a person.
        pub reason: String,
    }

    /// Notice: the broker's state has changed.
    pub struct StateChanged {
        /// As in [`Pinged`].
        pub state: u8,
        /// The topic it concerns; 0 for the whole broker.
        pub topic: TopicId,
    }
}

impl GoingAway {
    /// Opcode of the notice.
    pub const OPCODE: u8 = 0xa0;
}

impl StateChanged {
    /// Opcode of the notice.
    pub const OPCODE: u8 = 0xa1;
}
