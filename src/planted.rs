//! Bugs that are planted where they would be made, so that the simulation can show that it finds them.
//!
//! Owns which of them is alive on this thread. Outside of the crate's own tests none ever is: the
//! question is a constant then, and what asks it compiles to nothing. Its neighbours: the places that
//! ask, and the simulation that plants.

/// A mistake that somebody could make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A flush is announced before it is on disk.
    AckBeforeFsync,
    /// Which batches a producer has sent is forgotten at a start.
    RetriesForgotten,
    /// The receipt of a repeated batch names the offset after its own.
    OffsetOffByOne,
    /// An ack is answered while it is only staged.
    AckBeforeApplied,
    /// A trim removes the record at its bound too.
    TrimTakesOneMore,
    /// Two answers of one operation that leave together have each other's correlation id.
    WrongCorrelation,
    /// Of the requests that wait, the one that came last is not woken.
    LostWakeUp,
    /// A producer that comes back has its newest batch forgotten.
    DuplicateAfterReconnect,
    /// A fetch below the log's start is given what is left, and no word of the rest.
    ReadPastTrim,
    /// A request whose outcome is unknown is answered as not done.
    TimeoutTakenForFailure,
}

#[cfg(test)]
impl Bug {
    /// All of them.
    pub(crate) const ALL: [Self; 10] = [
        Self::AckBeforeFsync,
        Self::RetriesForgotten,
        Self::OffsetOffByOne,
        Self::AckBeforeApplied,
        Self::TrimTakesOneMore,
        Self::WrongCorrelation,
        Self::LostWakeUp,
        Self::DuplicateAfterReconnect,
        Self::ReadPastTrim,
        Self::TimeoutTakenForFailure,
    ];
}

#[cfg(test)]
thread_local! {
    static ALIVE: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// From now on this thread has that bug, and no other.
#[cfg(test)]
pub(crate) fn plant(bug: Option<Bug>) {
    ALIVE.set(bug);
}

/// Whether this thread has the bug.
#[cfg(test)]
pub(crate) fn is(bug: Bug) -> bool {
    ALIVE.get() == Some(bug)
}

/// No bug is alive.
#[cfg(not(test))]
pub(crate) const fn is(_bug: Bug) -> bool {
    false
}
