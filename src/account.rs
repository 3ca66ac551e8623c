//! Accounts: what a principal uses, and how long it has to wait before it uses more.
//!
//! Owns counting, nothing else, in atomics: one account for each principal, shared by all its
//! connections and by the topics that it has created. What is counted per second is pushed back by
//! waiting; what is counted at once is refused. Windows are another matter: they bound what is under
//! way, whoever's it is. Its neighbours: the broker sets what is allowed, windows wait here, topics
//! ask.
//!
//! ```text
//!                     paid until
//! ----+----------------+==============+------> time       rate 100/s, 150 units are taken at `now`
//!     now - burst      now            now + 0.5 s         (with the burst unused: the next one waits)
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use logdrive_protocol::operations::{Counter, Operation, Produce, ProduceAll};
use logdrive_protocol::{ErrorCode, Failure};
use tokio::time::{Instant, sleep};

use crate::access::Quotas;
use crate::limits::{QUOTA_BURST, QUOTA_WAIT};

/// What one principal uses.
#[derive(Debug)]
pub struct Account {
    name: String,
    /// The beginning of its time.
    since: Instant,
    requests: Bucket,
    produced: Bucket,
    consumed: Bucket,
    connections: Level,
    stored: Level,
    slowed_ms: AtomicU64,
    refused: AtomicU64,
}

/// What may be used by the second. Somebody who waits has taken his turn already, so turns come in
/// the order in which they were asked for.
#[derive(Debug, Default)]
struct Bucket {
    /// Units in a second; 0 is as many as there are.
    rate: AtomicU64,
    /// Until when all that was taken is paid for, in nanoseconds.
    paid: AtomicU64,
    /// Units that were taken, ever.
    taken: AtomicU64,
}

/// Why nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Denied {
    /// It would have to wait longer than anybody may.
    Late(Duration),
    /// It costs more time than anybody may wait.
    Large,
}

/// What may be used at once.
#[derive(Debug, Default)]
struct Level {
    /// 0 is as much as there is.
    most: AtomicU64,
    used: AtomicU64,
}

/// A place among the connections of a principal; dropping it gives it back.
#[derive(Debug)]
pub struct Seat(Arc<Account>);

/// Bytes that an answer has taken from an account; what is not settled is given back.
#[derive(Debug)]
pub struct Taken {
    account: Arc<Account>,
    bytes: u64,
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// How long so many units take.
fn price(units: u64, rate: u64) -> u64 {
    let nanos = u128::from(units) * 1_000_000_000 / u128::from(rate.max(1));
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

impl Bucket {
    fn allow(&self, rate: Option<u64>) {
        self.rate.store(rate.unwrap_or(0), Ordering::Relaxed);
    }

    /// Takes units, and says for how long to wait before they are used. `now` is in nanoseconds and
    /// not before [`QUOTA_BURST`].
    fn take(&self, units: u64, now: u64) -> Result<Duration, Denied> {
        let rate = self.rate.load(Ordering::Relaxed);
        if rate > 0 && price(units, rate) > nanos(QUOTA_WAIT) {
            return Err(Denied::Large);
        }
        self.overdraw(units, now)
    }

    /// The same however much it is: who comes later waits for it.
    fn overdraw(&self, units: u64, now: u64) -> Result<Duration, Denied> {
        let taken = self.book(units, now, nanos(QUOTA_WAIT));
        if taken.is_ok() {
            self.taken.fetch_add(units, Ordering::Relaxed);
        }
        taken.map_err(Denied::Late)
    }

    /// Takes what was used already.
    fn charge(&self, units: u64, now: u64) {
        let _ = self.book(units, now, u64::MAX);
        self.taken.fetch_add(units, Ordering::Relaxed);
    }

    /// Moves the time on until when all is paid for, unless that is more than `longest` from now.
    fn book(&self, units: u64, now: u64, longest: u64) -> Result<Duration, Duration> {
        let rate = self.rate.load(Ordering::Relaxed);
        if rate == 0 {
            return Ok(Duration::ZERO);
        }
        let price = price(units, rate);
        let begin = |paid: u64| paid.max(now.saturating_sub(nanos(QUOTA_BURST)));
        let wait = |paid: u64| begin(paid).saturating_sub(now);
        let booked = self
            .paid
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |paid| {
                (wait(paid) <= longest).then(|| begin(paid).saturating_add(price))
            });
        let waits = |paid| Duration::from_nanos(wait(paid));
        booked.map(waits).map_err(waits)
    }

    /// Whether units can be used without waiting.
    fn is_open(&self, now: u64) -> bool {
        self.rate.load(Ordering::Relaxed) == 0 || self.paid.load(Ordering::Acquire) <= now
    }

    fn give_back(&self, units: u64) {
        self.taken.fetch_sub(units, Ordering::Relaxed);
        let rate = self.rate.load(Ordering::Relaxed);
        if rate > 0 {
            let price = price(units, rate);
            let _ = self
                .paid
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |paid| {
                    Some(paid.saturating_sub(price))
                });
        }
    }
}

impl Level {
    fn allow(&self, most: Option<u64>) {
        self.most.store(most.unwrap_or(0), Ordering::Relaxed);
    }

    fn most(&self) -> Option<u64> {
        Some(self.most.load(Ordering::Relaxed)).filter(|most| *most > 0)
    }

    fn used(&self) -> u64 {
        self.used.load(Ordering::Acquire)
    }

    /// Takes one, if there is room for it.
    fn enter(&self) -> bool {
        let most = self.most().unwrap_or(u64::MAX);
        let entered = self
            .used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
                (used < most).then_some(used + 1)
            });
        entered.is_ok()
    }
}

impl Account {
    /// Nothing is used, and everything is allowed.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            since: Instant::now(),
            requests: Bucket::default(),
            produced: Bucket::default(),
            consumed: Bucket::default(),
            connections: Level::default(),
            stored: Level::default(),
            slowed_ms: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// The principal's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Allows so much from now on.
    pub fn allow(&self, quotas: &Quotas) {
        self.requests.allow(quotas.requests_per_second);
        self.produced.allow(quotas.produce_bytes_per_second);
        self.consumed.allow(quotas.consume_bytes_per_second);
        self.connections.allow(quotas.connections);
        self.stored.allow(quotas.stored_bytes);
    }

    fn now(&self) -> u64 {
        nanos(self.since.elapsed().saturating_add(QUOTA_BURST))
    }

    /// Waits until a request with so many bytes behind its head may begin.
    ///
    /// # Errors
    /// `QUOTA_EXCEEDED`: it would have to wait for longer than [`QUOTA_WAIT`], and has waited for
    /// that, or it alone is more than fits into that time.
    pub async fn admit(&self, opcode: u8, bytes: usize) -> Result<(), Failure> {
        self.pace(&self.requests, 1, "requests_per_second").await?;
        if matches!(opcode, Produce::OPCODE | ProduceAll::OPCODE) {
            let quota = "produce_bytes_per_second";
            self.pace(&self.produced, bytes as u64, quota).await?;
        }
        Ok(())
    }

    async fn pace(&self, bucket: &Bucket, units: u64, quota: &str) -> Result<(), Failure> {
        let mut denied = bucket.take(units, self.now());
        if let Err(Denied::Late(_)) = denied {
            // Asking again at once gains nobody anything.
            self.slow(QUOTA_WAIT).await;
            denied = bucket.take(units, self.now());
        }
        match denied {
            Ok(wait) => {
                self.slow(wait).await;
                Ok(())
            }
            Err(Denied::Late(wait)) => Err(self.late(quota, wait)),
            Err(Denied::Large) => {
                let message = format!("a request of {units} bytes is too much for it at once");
                let rate = bucket.rate.load(Ordering::Relaxed);
                let most = rate.saturating_mul(QUOTA_WAIT.as_secs());
                Err(self.exceeded(quota, &message).hint(format!(
                    "send at most {most} bytes in one request, or raise the quota"
                )))
            }
        }
    }

    async fn slow(&self, wait: Duration) {
        if !wait.is_zero() {
            let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            self.slowed_ms.fetch_add(millis, Ordering::Relaxed);
            sleep(wait).await;
        }
    }

    fn exceeded(&self, quota: &str, what: &str) -> Failure {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let message = format!("the quota {quota} of \"{}\": {what}", self.name);
        Failure::new(ErrorCode::QuotaExceeded, message)
    }

    fn late(&self, quota: &str, wait: Duration) -> Failure {
        let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let what = format!("it is used up for the next {wait} ms");
        self.exceeded(quota, &what)
            .numbers(wait, 0)
            .hint("ask for less at once, or raise the quota")
    }

    /// Takes what an answer has of bytes if it need not wait for that.
    pub fn try_take(self: &Arc<Self>, bytes: usize) -> Option<Taken> {
        let (now, bytes) = (self.now(), bytes as u64);
        let open = self.consumed.is_open(now) && self.consumed.overdraw(bytes, now).is_ok();
        open.then(|| Taken {
            account: self.clone(),
            bytes,
        })
    }

    /// Waits until an answer of so many bytes may be made.
    ///
    /// # Errors
    /// `QUOTA_EXCEEDED`, as a request.
    pub async fn take(self: &Arc<Self>, bytes: usize) -> Result<Taken, Failure> {
        let bytes = bytes as u64;
        let mut taken = self.consumed.overdraw(bytes, self.now());
        if taken.is_err() {
            self.slow(QUOTA_WAIT).await;
            taken = self.consumed.overdraw(bytes, self.now());
        }
        match taken {
            Ok(wait) => {
                let taken = Taken {
                    account: self.clone(),
                    bytes,
                };
                self.slow(wait).await;
                Ok(taken)
            }
            Err(Denied::Late(wait)) => Err(self.late("consume_bytes_per_second", wait)),
            Err(Denied::Large) => Err(self.late("consume_bytes_per_second", QUOTA_WAIT)),
        }
    }

    /// Takes what an answer has of bytes that nothing was taken for before.
    pub fn charge(&self, bytes: u64) {
        self.consumed.charge(bytes, self.now());
    }

    /// A place for a connection.
    ///
    /// # Errors
    /// `QUOTA_EXCEEDED`: all are taken.
    pub fn seat(self: &Arc<Self>) -> Result<Seat, Failure> {
        if self.connections.enter() {
            return Ok(Seat(self.clone()));
        }
        let most = self.connections.most().unwrap_or_default();
        let what = format!("{most} connections are open");
        let failure = self.exceeded("connections", &what).numbers(most, 0);
        Err(failure.hint("close one, or raise the quota"))
    }

    /// What a topic of this account keeps has gone from `before` to `after` bytes.
    pub fn count_stored(&self, before: u64, after: u64) {
        self.stored.used.fetch_add(after, Ordering::AcqRel);
        self.stored.used.fetch_sub(before, Ordering::AcqRel);
    }

    /// Whether more may be stored.
    ///
    /// # Errors
    /// `QUOTA_EXCEEDED`: as much is stored as may be.
    pub fn check_stored(&self) -> Result<(), Failure> {
        let used = self.stored.used();
        match self.stored.most() {
            Some(most) if used >= most => {
                let what = format!("{used} of {most} bytes are stored in topics that it created");
                let failure = self.exceeded("stored_bytes", &what).numbers(most, used);
                Err(failure.hint("purge or delete some, give them a retention, or raise the quota"))
            }
            _ => Ok(()),
        }
    }

    /// What is used, by name.
    pub fn usage(&self) -> Vec<Counter> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("connections", self.connections.used()),
            ("requests", read(&self.requests.taken)),
            ("produced_bytes", read(&self.produced.taken)),
            ("consumed_bytes", read(&self.consumed.taken)),
            ("stored_bytes", self.stored.used()),
            ("slowed_ms", read(&self.slowed_ms)),
            ("refused", read(&self.refused)),
        ]
        .map(|(name, value)| Counter {
            name: name.to_owned(),
            value,
        })
        .into()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.connections.used.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Taken {
    /// The answer has so many bytes after all.
    pub fn settle(mut self, bytes: usize) {
        let bytes = bytes as u64;
        if bytes > self.bytes {
            self.account.charge(bytes - self.bytes);
            self.bytes = 0;
        } else {
            self.bytes -= bytes;
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.account.consumed.give_back(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn bucket(rate: u64) -> Bucket {
        let bucket = Bucket::default();
        bucket.allow(Some(rate));
        bucket
    }

    /// What comes of taking these numbers of units at these times, in seconds.
    fn check(rate: u64, takes: &[(u64, u64)], expected: &str) {
        let bucket = bucket(rate);
        let said: Vec<_> = takes
            .iter()
            .map(|(at, units)| match bucket.take(*units, (at + 1) * SECOND) {
                Ok(wait) => format!("{}", wait.as_secs_f64()),
                Err(Denied::Late(wait)) => format!("late {}", wait.as_secs_f64()),
                Err(Denied::Large) => "large".to_owned(),
            })
            .collect();
        assert_eq!(said.join(" "), expected, "{takes:?}");
    }

    #[test]
    fn a_second_is_free_then_everybody_waits_for_what_was_taken_before() {
        check(100, &[(0, 100), (0, 50), (0, 50), (0, 1)], "0 0 0.5 1");
        // What is not used is kept for a second, not for longer.
        check(100, &[(60, 100), (60, 50), (60, 50)], "0 0 0.5");
        // What is large is taken whole, and paid for by who comes next.
        check(100, &[(0, 900), (0, 1), (8, 1), (9, 1)], "0 8 0.01 0");
        check(0, &[(0, u64::MAX), (0, 5)], "0 0");
    }

    #[test]
    fn nobody_waits_for_longer_than_the_longest_wait_and_who_would_takes_nothing() {
        check(
            100,
            &[(0, 1000), (0, 150), (0, 5), (1, 5)],
            "0 9 late 10.5 9.5",
        );
        check(100, &[(0, 1001), (0, 1)], "large 0");
        check(1, &[(0, u64::MAX)], "large");
    }

    #[test]
    fn over_a_long_time_the_rate_holds_whatever_is_asked_for() {
        for rate in [1, 7, 1000, 1 << 40] {
            let bucket = bucket(rate);
            let (mut now, mut taken) = (SECOND, 0);
            for step in 0..2000 {
                let units = (fastrand::u64(1..=rate) * (step % 3)).max(1);
                match bucket.take(units, now) {
                    Ok(wait) => {
                        now += nanos(wait);
                        taken += units;
                    }
                    Err(denied) => panic!("{denied:?}"),
                }
            }
            // Within a second of burst, the last one taken, and a nanosecond lost in each.
            let most = u128::from(rate) * u128::from(now + 2 * SECOND + 2000) / u128::from(SECOND);
            assert!(
                u128::from(taken) <= most + 1,
                "{taken} of {most} at {rate}/s"
            );
        }
    }

    #[test]
    fn turns_taken_by_many_threads_are_paid_for_one_by_one() {
        let bucket = bucket(1_000_000);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        bucket.take(100, SECOND).unwrap();
                    }
                });
            }
        });
        // 4,000,000 units are four seconds, of which one was free.
        assert_eq!(bucket.paid.load(Ordering::Acquire), 4 * SECOND);
    }

    #[tokio::test]
    async fn what_an_answer_does_not_need_is_given_back_and_what_it_has_more_is_taken() {
        let account = Arc::new(Account::new("ann"));
        account.allow(&Quotas {
            consume_bytes_per_second: Some(1000),
            ..Quotas::default()
        });
        let used = || account.consumed.taken.load(Ordering::Relaxed);
        drop(account.try_take(5000).unwrap());
        assert_eq!(used(), 0);
        account.try_take(5000).unwrap().settle(700);
        assert_eq!(used(), 700);
        account.take(100).await.unwrap().settle(9_000);
        assert_eq!(used(), 9_700);
        assert!(account.try_take(1).is_none(), "9 s are to be waited for");
    }

    #[test]
    fn seats_and_stored_bytes_are_refused_by_name_when_they_are_used_up() {
        let account = Arc::new(Account::new("ann"));
        account.allow(&Quotas {
            connections: Some(2),
            stored_bytes: Some(100),
            ..Quotas::default()
        });
        let (first, _second) = (account.seat().unwrap(), account.seat().unwrap());
        let failure = account.seat().unwrap_err();
        assert_eq!(
            failure.to_string(),
            "QUOTA_EXCEEDED the quota connections of \"ann\": 2 connections are open"
        );
        drop(first);
        account.seat().unwrap();

        account.count_stored(0, 99);
        account.check_stored().unwrap();
        account.count_stored(50, 51);
        let failure = account.check_stored().unwrap_err();
        assert_eq!((failure.first, failure.second), (100, 100));
        account.count_stored(51, 0);
        account.check_stored().unwrap();
        account.allow(&Quotas::default());
        account.count_stored(0, u64::MAX / 2);
        account.check_stored().unwrap();
    }
}
