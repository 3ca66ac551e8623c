//! Newtypes for every number that names something.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $name {
            /// Zero: no such thing is meant.
            pub const NONE: Self = Self(0);

            /// Whether this names nothing.
            pub fn is_none(self) -> bool {
                self == Self::NONE
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A topic; broker-wide, never reused.
    TopicId
}
id! {
    /// A registered producer; broker-wide, never reused. [`ProducerId::NONE`] produces unregistered.
    ProducerId
}
id! {
    /// A registered consumer; broker-wide, never reused.
    ConsumerId
}
id! {
    /// One taker of a consumer: random, kept while the taker lives. [`WorkerId::NONE`] has no memory.
    WorkerId
}
id! {
    /// One broker of a cluster; a broker that stands alone is node 1.
    NodeId
}
