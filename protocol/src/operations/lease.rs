//! Operations on leases: records that were handed to a worker until a deadline.

use crate::body::bodies;

bodies! {
    /// Records of one lease: all that it holds within these offsets.
    pub struct Settled {
        /// The lease, as a range of the answer names it.
        pub lease: u64,
        /// The first offset; 0 for everything up to `to`.
        pub from: u64,
        /// After the last.
        pub to: u64,
    }
}
