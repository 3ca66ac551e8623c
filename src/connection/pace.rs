//! Whether what was begun goes on: a bound for who is too slow that an honest slow link keeps.
//!
//! Pure: time is an argument. Within each wait either all of it comes, or as many bytes as the
//! slowest link brings in that time; so a long frame may take long, and one byte now and then is not
//! enough. Its neighbours: frames, lines and the writer ask it.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{SLOWEST_BYTES_PER_SECOND, SLOWEST_WANTED_BYTES_PER_SECOND};

/// Something that was begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    wait: Duration,
    /// Bytes per second.
    slowest: u32,
    since: Instant,
    bytes: usize,
}

impl Pace {
    /// It begins now, and is looked at whenever `wait` has passed.
    pub(super) fn new(wait: Duration, now: Instant) -> Self {
        Self {
            wait,
            slowest: SLOWEST_BYTES_PER_SECOND,
            since: now,
            bytes: 0,
        }
    }

    /// The same for what others wait for.
    pub(super) fn of_wanted(wait: Duration, now: Instant) -> Self {
        Self {
            slowest: SLOWEST_WANTED_BYTES_PER_SECOND,
            ..Self::new(wait, now)
        }
    }

    /// So many bytes more have passed.
    pub(super) fn count(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// When it is to be looked at.
    pub(super) fn deadline(&self) -> Instant {
        self.since + self.wait
    }

    /// Looks: whether it is not too slow.
    pub(super) fn goes_on(&mut self, now: Instant) -> bool {
        if now < self.deadline() {
            return true;
        }
        let needed = self.wait.as_secs() * u64::from(self.slowest);
        let is_enough = self.bytes as u64 >= needed;
        (self.since, self.bytes) = (now, 0);
        is_enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many bytes in each second; in which second it was ended, of ten minutes.
    fn check(bytes_per_second: usize, ended: Option<u64>) {
        let begun = Instant::now();
        let mut pace = Pace::new(Duration::from_secs(10), begun);
        let end = (1..600).find(|second| {
            pace.count(bytes_per_second);
            !pace.goes_on(begun + Duration::from_secs(*second))
        });
        assert_eq!(end, ended, "{bytes_per_second} bytes per second");
    }

    #[test]
    fn a_slow_link_goes_on_for_as_long_as_it_takes_and_a_byte_now_and_then_does_not() {
        check(0, Some(10));
        check(1, Some(10));
        check(SLOWEST_BYTES_PER_SECOND as usize / 2, Some(10));
        check(SLOWEST_BYTES_PER_SECOND as usize, None);
        check(1 << 20, None);
    }
}
