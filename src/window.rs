//! Windows and the budget: how many bytes may be under way, for one connection and for all.
//!
//! Owns counting, nothing else: a semaphore guards no data here. A request holds a [`Permit`] from
//! its admission until its answer is on the wire; the answer's own share is taken when there is
//! something to send. Requests and answers are counted apart, so that requests which wait for
//! records can never take the room that their answers need.
//!
//! What a connection may hold of the budget for answers follows what is free of it: so many that read
//! nothing leave room for who holds little, and none of them stands in front of anybody.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use logdrive_protocol::Failure;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use crate::account::{Account, Taken};
use crate::limits::{
    BUDGET_ANSWER_BYTES, BUDGET_ARRIVING_BYTES, BUDGET_REQUEST_BYTES, BUDGET_TAIL_BYTES,
    FRAME_WAIT, FREE_ANSWER_SHARE, LONG_FRAME_BYTES, REQUEST_COST_BYTES, SHARED_PIECE_BYTES,
    TAIL_BYTES, WINDOW_ANSWER_BYTES, WINDOW_REQUEST_BYTES, WRITE_PIECE_BYTES, connection_threads,
};

/// Bytes of the whole broker; one for all connections and topics.
#[derive(Debug)]
pub struct Budget {
    requests: Arc<Semaphore>,
    /// What is there of long frames and lines that are on their way here.
    arriving: Arc<Semaphore>,
    /// The one of them that is read to its end although there is no room.
    alone: Arc<Semaphore>,
    /// Those that wait for room.
    delayed: AtomicUsize,
    answers: Semaphore,
    /// Answers that wait for their share of the budget.
    wanted: AtomicUsize,
    /// Some of the budget of answers came back: one that waits for it looks again.
    freed: Notify,
    tails: AtomicUsize,
    /// Connections that are in the middle of a long answer.
    writing: AtomicUsize,
    /// Pieces of long answers that are written at once: as many as there are threads for it, so that
    /// a short answer is behind one piece at most, and not behind one of each connection.
    turns: Semaphore,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            requests: Arc::new(Semaphore::new(BUDGET_REQUEST_BYTES)),
            arriving: Arc::new(Semaphore::new(BUDGET_ARRIVING_BYTES)),
            alone: Arc::new(Semaphore::new(1)),
            delayed: AtomicUsize::new(0),
            answers: Semaphore::new(BUDGET_ANSWER_BYTES),
            wanted: AtomicUsize::new(0),
            freed: Notify::new(),
            tails: AtomicUsize::new(0),
            writing: AtomicUsize::new(0),
            turns: Semaphore::new(connection_threads()),
        }
    }
}

impl Budget {
    /// Counts a tail that went from `before` to `after` bytes.
    pub fn count_tail(&self, before: usize, after: usize) {
        self.tails.fetch_add(after, Ordering::Relaxed);
        self.tails.fetch_sub(before, Ordering::Relaxed);
    }

    /// How long a topic's tail may be now, in bytes: nothing while all together are over theirs.
    pub fn tail_limit(&self) -> usize {
        if self.tails.load(Ordering::Relaxed) > BUDGET_TAIL_BYTES {
            0
        } else {
            TAIL_BYTES
        }
    }

    /// Bytes that all tails hold.
    pub fn tail_bytes(&self) -> usize {
        self.tails.load(Ordering::Relaxed)
    }
}

/// What one connection may have under way; cheap to clone.
#[derive(Clone, Debug)]
pub struct Window {
    budget: Arc<Budget>,
    requests: Arc<Semaphore>,
    answers: Arc<Semaphore>,
    /// What answers hold of the budget, in bytes.
    held: Arc<AtomicUsize>,
    /// The peer has sent its last byte.
    finished: Arc<AtomicBool>,
    /// Something was written since it was last asked.
    wrote: Arc<AtomicBool>,
    /// What it uses is counted here too, once somebody is logged in.
    account: Arc<OnceLock<Arc<Account>>>,
}

/// A share of a window and of the budget; dropping it gives it back.
#[derive(Debug)]
pub struct Permit {
    _window: OwnedSemaphorePermit,
    _request: Option<OwnedSemaphorePermit>,
    _answer: Option<AnswerShare>,
}

/// A share of the budget of answers; whoever waits for it is told when it comes back.
#[derive(Debug)]
struct AnswerShare {
    budget: Arc<Budget>,
    held: Arc<AtomicUsize>,
    cost: u32,
}

impl Drop for AnswerShare {
    fn drop(&mut self) {
        self.held.fetch_sub(self.cost as usize, Ordering::Relaxed);
        self.budget.answers.add_permits(self.cost as usize);
        self.budget.freed.notify_one();
    }
}

/// An answer's share of a window, of the budget and of its principal's account.
#[derive(Debug)]
pub struct Share {
    permit: Permit,
    taken: Option<Taken>,
}

impl Share {
    /// The answer has so many bytes of records; what is left of its share is held until it is on the
    /// wire.
    pub fn settle(self, bytes: usize) -> Permit {
        if let Some(taken) = self.taken {
            taken.settle(bytes);
        }
        self.permit
    }
}

impl Window {
    /// A window of its own for one connection.
    pub fn new(budget: Arc<Budget>) -> Self {
        Self {
            budget,
            requests: Arc::new(Semaphore::new(WINDOW_REQUEST_BYTES as usize)),
            answers: Arc::new(Semaphore::new(WINDOW_ANSWER_BYTES as usize)),
            held: Arc::default(),
            finished: Arc::default(),
            wrote: Arc::default(),
            account: Arc::default(),
        }
    }

    /// Somebody is logged in: what is used from now on is counted there too.
    pub fn open_account(&self, account: Arc<Account>) {
        // Nobody logs in twice on one connection.
        let _ = self.account.set(account);
    }

    /// Waits for as long as the principal's quotas demand before a request begins.
    ///
    /// # Errors
    /// `QUOTA_EXCEEDED`: waiting does not help.
    pub async fn pace(&self, opcode: u8, bytes: usize) -> Result<(), Failure> {
        match self.account.get() {
            // Boxed: a connection that is silent keeps no room for it.
            Some(account) => Box::pin(account.admit(opcode, bytes)).await,
            None => Ok(()),
        }
    }

    /// Whose it is, if somebody is logged in.
    pub fn account(&self) -> Option<&Arc<Account>> {
        self.account.get()
    }

    /// Counts bytes of records in an answer that had no share of its own.
    pub fn charge(&self, bytes: usize) {
        if let Some(account) = self.account.get() {
            account.charge(bytes as u64);
        }
    }

    /// Whether anybody counts what is answered.
    pub fn is_counted(&self) -> bool {
        self.account.get().is_some()
    }

    /// The peer has sent its last byte: what it has begun is answered, but nothing of it waits for
    /// records any more, for it may have left.
    pub fn finish(&self) {
        self.finished.store(true, Ordering::Release);
    }

    /// Whether the peer has sent its last byte.
    pub fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    /// Something was written to the peer.
    pub fn note_written(&self) {
        self.wrote.store(true, Ordering::Relaxed);
    }

    /// Whether anything is under way, or was written since this was last asked.
    pub fn is_in_use(&self) -> bool {
        let wrote = self.wrote.swap(false, Ordering::Relaxed);
        wrote || self.requests.available_permits() < WINDOW_REQUEST_BYTES as usize
    }

    /// Room for something long that has begun to arrive.
    pub fn arriving(&self) -> Arriving {
        Arriving {
            budget: self.budget.clone(),
            bytes: LONG_FRAME_BYTES,
            held: Vec::new(),
        }
    }

    /// Whether something long of other connections waits for room.
    pub fn delays_others(&self) -> bool {
        self.budget.delayed.load(Ordering::Relaxed) > 0
    }

    /// Waits until a request of so many bytes may begin; `None` once the window is closed.
    pub async fn admit(&self, bytes: usize) -> Option<Permit> {
        let cost = cost(bytes, WINDOW_REQUEST_BYTES);
        acquire(&self.requests, &self.budget.requests, cost).await
    }

    /// Waits until an answer of so many bytes may be sent; `None` once the window is closed.
    ///
    /// # Errors
    /// `QUOTA_EXCEEDED`: waiting does not help.
    pub async fn reserve(&self, bytes: usize) -> Result<Option<Share>, Failure> {
        // The account first: while it waits, nothing is held that others may want.
        let taken = match self.account.get() {
            Some(account) => Some(Box::pin(account.take(bytes)).await?),
            None => None,
        };
        let permit = self.permit(bytes).await;
        Ok(permit.map(|permit| Share { permit, taken }))
    }

    async fn permit(&self, bytes: usize) -> Option<Permit> {
        let cost = cost(bytes, WINDOW_ANSWER_BYTES);
        // Its own window first: a peer that does not read waits for itself, and wants nothing.
        let window = self.answers.clone().acquire_many_owned(cost).await.ok()?;
        let mut share = self.share(cost);
        if share.is_none() {
            let _wanted = Waits::new(&self.budget.wanted);
            while share.is_none() {
                self.budget.freed.notified().await;
                if self.answers.is_closed() {
                    self.budget.freed.notify_one();
                    return None;
                }
                share = self.share(cost);
            }
            // There may be enough for the next one as well. One that finds too little is told again
            // by whoever holds it.
            self.budget.freed.notify_one();
        }
        Some(Permit {
            _window: window,
            _request: None,
            _answer: Some(share?),
        })
    }

    /// Takes a share of the budget of answers, unless what the connection holds would be too much of
    /// what is free.
    fn share(&self, cost: u32) -> Option<AnswerShare> {
        let free = self.budget.answers.available_permits();
        let held = self.held.load(Ordering::Relaxed) + cost as usize;
        if held > free / FREE_ANSWER_SHARE {
            return None;
        }
        // It comes back by [`AnswerShare`], which says so.
        let permit = self.budget.answers.try_acquire_many(cost).ok()?;
        permit.forget();
        self.held.fetch_add(cost as usize, Ordering::Relaxed);
        Some(AnswerShare {
            budget: self.budget.clone(),
            held: self.held.clone(),
            cost,
        })
    }

    /// Whether answers of other connections wait for what this one may hold of the budget.
    pub fn is_wanted(&self) -> bool {
        self.budget.wanted.load(Ordering::Relaxed) > 0
    }

    /// The connection is in the middle of a long answer until this is dropped.
    pub fn begin_long_answer(&self) -> LongAnswer {
        self.budget.writing.fetch_add(1, Ordering::Relaxed);
        LongAnswer(self.budget.clone())
    }

    /// Takes the share of an answer if it is there.
    pub fn try_reserve(&self, bytes: usize) -> Option<Share> {
        let cost = cost(bytes, WINDOW_ANSWER_BYTES);
        let window = self.answers.clone().try_acquire_many_owned(cost).ok()?;
        let permit = Permit {
            _window: window,
            _request: None,
            _answer: Some(self.share(cost)?),
        };
        let taken = match self.account.get() {
            Some(account) => Some(account.try_take(bytes)?),
            None => None,
        };
        Some(Share { permit, taken })
    }

    /// The connection is gone: nobody waits for it any more.
    pub fn close(&self) {
        self.requests.close();
        self.answers.close();
    }
}

/// The room of a long frame or line while it arrives; dropping it gives it back.
///
/// It is for what is there, and once more as much: who only promises takes none. As long as there is
/// some, all go on; when there is none, one after the other does, so that they do not wait for each
/// other for ever.
#[derive(Debug)]
pub struct Arriving {
    budget: Arc<Budget>,
    /// Bytes that may be there.
    bytes: usize,
    held: Vec<OwnedSemaphorePermit>,
}

impl Arriving {
    /// Waits until more than `arrived` bytes may be there, or all of `most`; whether it had to.
    ///
    /// # Errors
    /// Others have held all room for [`FRAME_WAIT`].
    pub async fn grow(&mut self, arrived: usize, most: usize) -> Result<bool, Elapsed> {
        let mut waited = false;
        while self.bytes <= arrived && self.bytes < most {
            let more = self.bytes.min(most - self.bytes);
            let cost = u32::try_from(more).unwrap_or(u32::MAX);
            let room = &self.budget.arriving;
            let held = if let Ok(room) = room.clone().try_acquire_many_owned(cost) {
                Ok((room, more))
            } else {
                waited = true;
                let _delayed = Waits::new(&self.budget.delayed);
                let alone = self.budget.alone.clone().acquire_owned();
                let held = async {
                    tokio::select! {
                        room = room.clone().acquire_many_owned(cost) => room.map(|it| (it, more)),
                        alone = alone => alone.map(|it| (it, most)),
                    }
                };
                timeout(FRAME_WAIT, held).await?
            };
            // Nobody closes them.
            let Ok((held, more)) = held else { break };
            self.held.push(held);
            self.bytes = most.min(self.bytes + more);
        }
        Ok(waited)
    }
}

/// A long answer that is being written; counted as long as it is.
#[derive(Debug)]
pub struct LongAnswer(Arc<Budget>);

impl LongAnswer {
    /// Waits until its next piece may be written, and says how long that may be, in bytes; whoever
    /// drops the turn lets the next.
    pub async fn turn(&self) -> (Option<SemaphorePermit<'_>>, usize) {
        let turn = self.0.turns.acquire().await.ok();
        let is_alone = self.0.writing.load(Ordering::Relaxed) <= 1;
        let piece = if is_alone {
            WRITE_PIECE_BYTES
        } else {
            SHARED_PIECE_BYTES
        };
        (turn, piece)
    }
}

impl Drop for LongAnswer {
    fn drop(&mut self) {
        self.0.writing.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Something that waits for its share of the budget; counted as long as it waits.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn cost(bytes: usize, most: u32) -> u32 {
    u32::try_from(bytes)
        .unwrap_or(most)
        .clamp(REQUEST_COST_BYTES, most)
}

async fn acquire(window: &Arc<Semaphore>, budget: &Arc<Semaphore>, cost: u32) -> Option<Permit> {
    Some(Permit {
        _window: window.clone().acquire_many_owned(cost).await.ok()?,
        _request: Some(budget.clone().acquire_many_owned(cost).await.ok()?),
        _answer: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MAX_REQUESTS;

    #[tokio::test]
    async fn requests_that_wait_never_take_the_room_of_answers() {
        let window = Window::new(Arc::default());
        let _waiting = window.admit(WINDOW_REQUEST_BYTES as usize).await.unwrap();
        assert!(window.requests.clone().try_acquire_many_owned(1).is_err());
        assert!(window.try_reserve(WINDOW_ANSWER_BYTES as usize).is_some());
    }

    #[tokio::test]
    async fn small_requests_are_bounded_by_their_number() {
        let window = Window::new(Arc::default());
        let mut permits = Vec::new();
        for _ in 0..MAX_REQUESTS {
            assert!(window.requests.available_permits() > 0);
            permits.push(window.admit(0).await.unwrap());
        }
        assert_eq!(window.requests.available_permits(), 0);
        assert!(window.is_in_use());
        drop(permits);
        assert!(!window.is_in_use());
        window.note_written();
        assert!(window.is_in_use() && !window.is_in_use());
    }

    #[tokio::test]
    async fn many_that_read_nothing_leave_room_for_who_holds_little() {
        // The story: two dozen held the whole budget with an answer each, others queued for it, and
        // who asked for a few bytes stood behind them until they were given up.
        let budget: Arc<Budget> = Arc::default();
        let deaf: Vec<Window> = (0..1000).map(|_| Window::new(budget.clone())).collect();
        let held: Vec<_> = deaf.iter().map(|it| it.try_reserve(8 << 20)).collect();
        let count = held.iter().flatten().count();
        assert!((10..24).contains(&count), "{count}");
        let mut waiting = Box::pin(deaf[999].reserve(8 << 20));
        tokio::select! {
            biased;
            _ = &mut waiting => panic!("there is no room for it"),
            () = std::future::ready(()) => {}
        }
        assert!(deaf[0].is_wanted());
        let honest = Window::new(budget.clone());
        assert!(honest.try_reserve(4 << 20).is_some(), "nobody is before it");
        drop(held);
        assert!(waiting.await.unwrap().is_some());
        assert!(!deaf[0].is_wanted());
        assert_eq!(budget.answers.available_permits(), BUDGET_ANSWER_BYTES);
    }

    #[tokio::test]
    async fn a_share_comes_back_when_it_is_dropped_and_never_after_the_end() {
        let window = Window::new(Arc::default());
        let whole = window.try_reserve(usize::MAX).unwrap();
        assert!(window.try_reserve(1).is_none());
        drop(whole);
        assert!(window.reserve(1).await.unwrap().is_some());
        window.close();
        assert!(window.reserve(1).await.unwrap().is_none());
    }
}
