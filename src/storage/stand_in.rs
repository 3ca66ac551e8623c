//! What the protocol crate will say about batches; goes away with its first commit.

/// A topic; broker-wide, never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub u64);
