//! Which leases a worker holds, and which of their offsets are not settled yet. No clock and no
//! I/O: time is an argument.
//!
//! ```text
//!   taken ---> held ---> settled            acked or given back, all of it
//!               ^ \----> over               its time has passed, or the broker says so
//!               |  |
//!               +--+ extended
//! ```
//!
//! It serves extending, giving back and "everything up to": whether an ack is right is for the
//! broker alone to say.

use std::collections::BTreeMap;
use std::time::Duration;

use logdrive_protocol::limits::MAX_LEASE_MS;
use logdrive_protocol::operations::Settled;
use tokio::time::Instant;

use super::settling::millis;

/// The leases of one worker of one consumer; a later one has a higher number.
#[derive(Debug, Default)]
pub(crate) struct Held {
    leases: BTreeMap<u64, Running>,
}

#[derive(Debug)]
struct Running {
    /// Offsets that are not settled, from and to, ascending.
    open: Vec<(u64, u64)>,
    /// When it is over, at the earliest.
    until: Instant,
    /// How long it was to last when it began, or was last extended.
    lasts: Duration,
    /// Whether an extension is under way.
    extending: bool,
}

impl Held {
    pub(crate) fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// Offsets of a lease that was just given, or given again after a lost answer.
    pub(crate) fn take(&mut self, lease: u64, from: u64, to: u64, now: Instant, lasts: Duration) {
        let running = self.leases.entry(lease).or_insert(Running {
            open: Vec::new(),
            until: now + lasts,
            lasts,
            extending: false,
        });
        if running.open.last().is_none_or(|&(_, end)| end <= from) {
            running.open.push((from, to));
        }
    }

    /// These offsets are not held any more.
    pub(crate) fn settle(&mut self, settled: &Settled) {
        let Some(running) = self.leases.get_mut(&settled.lease) else {
            return;
        };
        let (from, to) = (settled.from, settled.to);
        let mut open = Vec::with_capacity(running.open.len() + 1);
        for &(start, end) in &running.open {
            open.push((start, end.min(from)));
            open.push((start.max(to), end));
        }
        open.retain(|(start, end)| start < end);
        running.open = open;
        if running.open.is_empty() {
            self.leases.remove(&settled.lease);
        }
    }

    /// The lease is over.
    pub(crate) fn end(&mut self, lease: u64) {
        self.leases.remove(&lease);
    }

    /// None is left.
    pub(crate) fn clear(&mut self) {
        self.leases.clear();
    }

    /// The lease is to last for so long: known before the broker is asked, or an extension after a
    /// lost connection could overtake this one and cut it short. What the broker is going to refuse
    /// changes nothing.
    pub(crate) fn extend(&mut self, lease: u64, lasts: Duration) {
        if let Some(running) = self.leases.get_mut(&lease)
            && (1..=MAX_LEASE_MS).contains(&millis(lasts))
        {
            running.lasts = lasts;
        }
    }

    /// The lease was not extended, and lasts as long as it did.
    pub(crate) fn refused(&mut self, lease: u64) {
        if let Some(running) = self.leases.get_mut(&lease) {
            running.extending = false;
        }
    }

    /// The lease lasts for so long from now on.
    pub(crate) fn extended(&mut self, lease: u64, now: Instant, lasts: Duration) {
        if let Some(running) = self.leases.get_mut(&lease) {
            running.until = running.until.max(now + lasts);
            running.extending = false;
        }
    }

    /// All that earlier leases hold, and what this one holds before `to`; this one is named even if
    /// nothing of it is held, so that the broker can say what became of it.
    pub(crate) fn up_to(&self, lease: u64, to: u64) -> Vec<Settled> {
        let earlier = self.leases.range(..lease).map(whole);
        let last = Settled { lease, from: 0, to };
        earlier.chain([last]).collect()
    }

    /// All that is held.
    pub(crate) fn all(&self) -> Vec<Settled> {
        self.leases.iter().map(whole).collect()
    }

    /// All leases, to be extended by as much as each was to last.
    pub(crate) fn extend_all(&mut self) -> Vec<(u64, Duration)> {
        let begun = |(&lease, running): (&u64, &mut Running)| {
            running.extending = true;
            (lease, running.lasts)
        };
        self.leases.iter_mut().map(begun).collect()
    }

    /// Leases of which half is over, to be extended by as much as each was to last.
    pub(crate) fn extend_due(&mut self, now: Instant) -> Vec<(u64, Duration)> {
        let due = |it: &Running| !it.extending && it.half() <= now;
        let leases = self.leases.iter_mut().filter(|(_, it)| due(it));
        let begun = leases.map(|(&lease, running)| {
            running.extending = true;
            (lease, running.lasts)
        });
        begun.collect()
    }

    /// Forgets leases that are over by now.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.leases.retain(|_, it| it.until > now);
    }

    /// When there is something to extend, where leases are extended, or else to forget.
    pub(crate) fn due(&self, extends: bool) -> Option<Instant> {
        let leases = self.leases.values();
        if extends {
            leases.filter(|it| !it.extending).map(Running::half).min()
        } else {
            leases.map(|it| it.until).min()
        }
    }
}

impl Running {
    fn half(&self) -> Instant {
        self.until.checked_sub(self.lasts / 2).unwrap_or(self.until)
    }
}

fn whole((&lease, running): (&u64, &Running)) -> Settled {
    Settled {
        lease,
        from: 0,
        to: running.open.last().map_or(0, |&(_, to)| to),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Leases 1 with 100..110 and 120..130, and 2 with 50..60, each for ten seconds.
    fn held(now: Instant) -> Held {
        let mut held = Held::default();
        for (lease, from, to) in [(1, 100, 110), (1, 120, 130), (2, 50, 60)] {
            held.take(lease, from, to, now, 10 * SECOND);
        }
        held
    }

    /// What is held after `change`, as `lease: from..to ...`.
    fn check(change: impl FnOnce(&mut Held), expected: &str) {
        let mut held = held(Instant::now());
        change(&mut held);
        let leases: Vec<String> = held
            .leases
            .iter()
            .map(|(lease, running)| {
                let open = running
                    .open
                    .iter()
                    .map(|(from, to)| format!(" {from}..{to}"));
                format!("{lease}:{}", open.collect::<String>())
            })
            .collect();
        assert_eq!(leases.join(", "), expected);
    }

    fn settle(held: &mut Held, lease: u64, from: u64, to: u64) {
        held.settle(&Settled { lease, from, to });
    }

    #[test]
    fn what_is_settled_is_not_held() {
        check(|_| (), "1: 100..110 120..130, 2: 50..60");
        check(
            |it| settle(it, 1, 105, 106),
            "1: 100..105 106..110 120..130, 2: 50..60",
        );
        check(|it| settle(it, 1, 0, 121), "1: 121..130, 2: 50..60");
        check(
            |it| settle(it, 1, 105, 125),
            "1: 100..105 125..130, 2: 50..60",
        );
        check(|it| settle(it, 1, 100, 130), "2: 50..60");
        check(
            |it| settle(it, 9, 0, 1000),
            "1: 100..110 120..130, 2: 50..60",
        );
        check(|it| it.end(2), "1: 100..110 120..130");
    }

    #[test]
    fn an_answer_that_comes_again_is_held_once() {
        let now = Instant::now();
        check(
            |it| {
                it.take(2, 50, 60, now, SECOND);
                it.take(3, 60, 61, now, SECOND);
            },
            "1: 100..110 120..130, 2: 50..60, 3: 60..61",
        );
    }

    fn named(settled: &[Settled]) -> String {
        let one = |it: &Settled| format!("{}:{}..{}", it.lease, it.from, it.to);
        settled.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn up_to_a_record_is_all_of_earlier_leases_and_a_part_of_its_own() {
        let held = held(Instant::now());
        assert_eq!(named(&held.up_to(2, 53)), "1:0..130 2:0..53");
        assert_eq!(named(&held.up_to(1, 121)), "1:0..121");
        assert_eq!(named(&held.up_to(7, 9)), "1:0..130 2:0..60 7:0..9");
        assert_eq!(named(&held.all()), "1:0..130 2:0..60");
    }

    #[test]
    fn a_lease_is_extended_when_half_of_it_is_over_and_forgotten_at_its_end() {
        let now = Instant::now();
        let mut held = held(now);
        held.extend(2, 30 * SECOND);
        assert_eq!(
            held.extend_all()[1],
            (2, 30 * SECOND),
            "also before the answer"
        );
        held.extended(1, now, 10 * SECOND);
        held.extended(2, now, 30 * SECOND);
        assert_eq!(held.due(true), Some(now + 5 * SECOND));
        assert_eq!(held.due(false), Some(now + 10 * SECOND));
        assert_eq!(held.extend_due(now + 4 * SECOND), []);
        assert_eq!(held.extend_due(now + 6 * SECOND), [(1, 10 * SECOND)]);
        assert_eq!(held.extend_due(now + 6 * SECOND), [], "it is under way");
        assert_eq!(held.due(true), Some(now + 15 * SECOND));
        held.expire(now + 12 * SECOND);
        assert_eq!(named(&held.all()), "2:0..60");
        assert_eq!(held.extend_all(), [(2, 30 * SECOND)]);
        assert_eq!(held.due(true), None, "its answer says when");
        held.expire(now + 31 * SECOND);
        assert!(held.is_empty());
        assert_eq!(held.due(true), None);
    }
}
