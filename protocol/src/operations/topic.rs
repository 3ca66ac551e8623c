//! Operations on topics.

use crate::body::bodies;
use crate::ids::{ConsumerId, TopicId};
use crate::position::Position;

bodies! {
    /// One named setting; its unit is the name's.
    pub struct Setting {
        /// Its name.
        pub key: String,
        /// Its value, as text.
        pub value: String,
    }

    /// Creates a topic.
    pub struct CreateTopic {
        /// 1 to 128 of `A-Za-z0-9._-`, not starting with a dot.
        pub name: String,
        /// Settings other than the defaults.
        pub settings: Vec<Setting>,
        /// Whether an existing topic with equal settings is a success.
        pub if_not_exists: bool,
    }

    /// The topic is there and durable.
    pub struct TopicCreated {
        /// Its id.
        pub topic: TopicId,
        /// False if it was there before.
        pub created: bool,
    }

    /// Deletes a topic with all its records, producers and consumers.
    pub struct DeleteTopic {
        /// Which one.
        pub topic: TopicId,
    }

    /// The topic is gone.
    pub struct TopicDeleted {}

    /// Lists topics in the order of their names.
    pub struct ListTopics {
        /// `*` any characters, `?` one, `[ab]` one of these; empty for all.
        pub glob: String,
        /// Only names after this one.
        pub after: String,
        /// At most so many, up to 1000; 0 for 100.
        pub limit: u32,
    }

    /// Topics.
    pub struct TopicsListed {
        /// In the order of their names.
        pub topics: Vec<TopicSummary>,
        /// Whether there are more after the last one.
        pub more: bool,
    }

    /// What a list says of one topic.
    pub struct TopicSummary {
        /// Its name.
        pub name: String,
        /// Its id.
        pub topic: TopicId,
        /// Offset of the first record that is kept.
        pub log_start: u64,
        /// Offset after the last visible record.
        pub high_watermark: u64,
        /// Visible records that are kept.
        pub records: u64,
        /// Their keys, headers and values, in bytes.
        pub bytes: u64,
    }

    /// Describes a topic and its consumers.
    pub struct DescribeTopic {
        /// Its name.
        pub name: String,
        /// Only consumers whose names come after this one.
        pub after: String,
        /// At most so many consumers, up to 1000; 0 for 100.
        pub limit: u32,
    }

    /// A topic in full.
    pub struct TopicDescribed {
        /// As in a list.
        pub topic: TopicId,
        /// Its name.
        pub name: String,
        /// Settings other than the defaults.
        pub settings: Vec<Setting>,
        /// When it was created, in microseconds since 1970 UTC.
        pub created_at: u64,
        /// Offset of the first record that is kept.
        pub log_start: u64,
        /// Offset after the last visible record.
        pub high_watermark: u64,
        /// Visible records that are kept.
        pub records: u64,
        /// Their keys, headers and values, in bytes.
        pub bytes: u64,
        /// Append time of the last record, in microseconds; 0 if there is none.
        pub last_append_time: u64,
        /// Registered producers.
        pub producers: u32,
        /// Registered consumers, of which a part follows.
        pub consumer_count: u32,
        /// In the order of their names.
        pub consumers: Vec<ConsumerSummary>,
        /// Whether there are more consumers after the last one.
        pub more: bool,
        /// The consumer for which records are kept that `retention_until_consumed` would let go
        /// otherwise; empty if there is none.
        pub held_by: String,
        /// The principal that created it, and whose quota counts what it keeps; empty if nobody was
        /// logged in.
        pub owner: String,
    }

    /// Changes settings of a topic; those that are not named stay as they are.
    pub struct AlterTopic {
        /// Which one.
        pub topic: TopicId,
        /// Settings and their new values.
        pub set: Vec<Setting>,
        /// Keys of settings that go back to their defaults.
        pub unset: Vec<String>,
    }

    /// The settings are durable.
    pub struct TopicAltered {
        /// All settings other than the defaults.
        pub settings: Vec<Setting>,
    }

    /// Removes the records before a position.
    pub struct PurgeTopic {
        /// Which one.
        pub topic: TopicId,
        /// The first record that is kept.
        pub before: Position,
    }

    /// The records are gone.
    pub struct TopicPurged {
        /// Offset of the first record that is kept.
        pub log_start: u64,
        /// Records that this request has removed.
        pub records: u64,
        /// Their keys, headers and values, in bytes.
        pub bytes: u64,
    }

    /// What a description says of one consumer.
    pub struct ConsumerSummary {
        /// Its name.
        pub name: String,
        /// Its id.
        pub consumer: ConsumerId,
        /// Offset of the next record for it.
        pub cursor: u64,
        /// Records left for it.
        pub records: u64,
        /// Their keys, headers and values, in bytes.
        pub bytes: u64,
        /// Workers that it knows.
        pub workers: u32,
    }
}
