//! Reading a topic without changing anything.
//!
//! ```text
//!  caller <-- an answer in use <-- [ an answer that has arrived | one under way ] <-- broker
//! ```
//!
//! A task asks for the next answer as soon as the last has begun to arrive, and never further ahead
//! than the picture shows, so that the broker reads while it sends, and sends while the caller works.

use std::sync::Arc;
use std::time::Duration;

use logdrive_protocol::operations::{Delivered, Fetch, Setting};
use logdrive_protocol::{Position, TopicId};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use crate::arrivals::Beginning;
use crate::dialer::Dialer;
use crate::link::Parking;
use crate::reading::{self, LONG_POLL, Pending};
use crate::{Client, End, Error, ErrorKind, FetchOptions, Portion};

/// Answers that have arrived or are under way, while another is with the caller.
const AHEAD: usize = 2;

/// Reads a topic answer by answer; the next two are asked for while one is used.
///
/// A lost connection is a pause: it asks again from where it was, as long as
/// [`retry_for`](crate::Options::retry_for) says. After an error the next call asks again.
#[derive(Debug)]
pub struct Fetcher {
    dialer: Dialer,
    topic: Arc<str>,
    /// The next record to hand out, and what comes after it.
    course: Course,
    /// What arrived and was not handed out.
    arrived: Option<Delivered>,
    ahead: Option<Ahead>,
}

/// Answers on their way, in order; dropping it withdraws what was asked for.
#[derive(Debug)]
struct Ahead {
    answers: mpsc::Receiver<Result<Delivered, Error>>,
    _asking: AbortOnDropHandle<()>,
}

/// A request on its way.
struct Asked {
    from: u64,
    pending: Pending,
    beginning: oneshot::Receiver<Beginning>,
}

/// From where to where, and how much.
#[derive(Clone, Debug)]
struct Course {
    topic: TopicId,
    position: u64,
    end: Option<u64>,
    /// Records that may still be delivered; `None` for no limit.
    left: Option<u64>,
    max_bytes: u32,
    filter: Arc<[Setting]>,
}

impl Course {
    fn is_done(&self) -> bool {
        self.left == Some(0) || self.end.is_some_and(|end| self.position >= end)
    }

    /// So many records are delivered.
    fn spend(&mut self, records: u64) {
        self.left = self.left.map(|left| left.saturating_sub(records));
    }

    fn request(&self, from: Position) -> (Fetch, Parking) {
        let waits = self.end.is_none();
        let parking = Parking {
            wait: if waits { LONG_POLL } else { Duration::ZERO },
            topic: Some(self.topic),
        };
        let fetch = Fetch {
            topic: self.topic,
            from,
            max_records: u32::try_from(self.left.unwrap_or(0)).unwrap_or(0),
            max_bytes: self.max_bytes,
            max_wait_ms: u32::try_from(parking.wait.as_millis()).unwrap_or(u32::MAX),
            leader_epoch: 0,
            filter: self.filter.to_vec(),
        };
        (fetch, parking)
    }

    /// The course behind an answer whose first bytes are these, if that can be told from them.
    fn beyond(&self, beginning: &Beginning) -> Option<Self> {
        let position = Delivered::next_of(beginning)?;
        let beyond = Self {
            position,
            ..self.clone()
        };
        // How many records the answer has stands behind the gaps.
        (self.left.is_none() && !beyond.is_done()).then_some(beyond)
    }

    fn ask(&self, dialer: &Dialer) -> Asked {
        let (fetch, parking) = self.request(Position::Offset(self.position));
        let from = self.position;
        let (eager, beginning) = oneshot::channel();
        let pending = reading::begin_eagerly(dialer, fetch, Some(from), parking, Some(eager));
        Asked {
            from,
            pending,
            beginning,
        }
    }

    /// Asks, and asks on, until the end or the first error.
    async fn follow(mut self, dialer: Dialer, answers: mpsc::Sender<Result<Delivered, Error>>) {
        let mut following = None;
        while !self.is_done() {
            let (place, mut asked) = match following.take() {
                Some(following) => following,
                None => match answers.reserve().await {
                    Ok(place) => (place, self.ask(&dialer)),
                    Err(_) => return,
                },
            };
            if let Ok(beginning) = (&mut asked.beginning).await
                && let Some(beyond) = self.beyond(&beginning)
                && let Ok(place) = answers.try_reserve()
            {
                following = Some((place, beyond.ask(&dialer)));
            }
            let landed = reading::joined(asked.pending.await);
            let goes_on = landed.result.as_ref().is_ok_and(|delivered| {
                self.position = delivered.next;
                self.spend(delivered.record_count());
                // Nothing is left before an end that is known: the log has lost it.
                delivered.status != Delivered::EMPTY || self.end.is_none()
            });
            // An answer that came at the second attempt may end elsewhere than the first began to.
            following.take_if(|(_, asked)| asked.from != self.position);
            place.send(landed.result);
            if !goes_on {
                return;
            }
        }
    }
}

impl Fetcher {
    pub(crate) async fn open(
        client: &Client,
        topic: &str,
        from: Position,
        options: FetchOptions,
    ) -> Result<Self, Error> {
        let id = client.topic_id(topic).await?;
        let before = match options.end {
            End::Before(position) => Some(client.resolve_in(id, position).await?),
            End::HighWatermark | End::Follow => None,
        };
        let mut course = Course {
            topic: id,
            position: 0,
            // The first answer says where the log ends, and does not wait for more.
            end: Some(before.unwrap_or(u64::MAX)),
            left: Some(options.max_records).filter(|most| *most > 0),
            max_bytes: options.max_bytes,
            filter: options.filter.settings().into(),
        };
        let asked = match from {
            Position::Offset(offset) => Some(offset),
            _ => None,
        };
        let (fetch, parking) = course.request(from);
        let dialer = client.dialer().clone();
        let first = reading::ask_until(&dialer, &fetch, asked, parking, None)
            .await
            .result?;
        let first_gap = first.gaps.first().map(|gap| gap.from);
        let first_range = first.ranges.first().map(|range| range.from);
        course.position = first_gap.or(first_range).unwrap_or(first.next);
        let watermark = first.high_watermark;
        course.end = match options.end {
            End::Follow => None,
            _ => Some(before.map_or(watermark, |before| before.min(watermark))),
        };
        Ok(Self {
            dialer,
            topic: topic.into(),
            course,
            arrived: Some(first),
            ahead: None,
        })
    }

    /// The next records; `None` at the end. Dropping the future loses nothing.
    ///
    /// With a filter a portion may be empty: the broker has looked through much, of which nothing
    /// matches, and [`position`](Self::position) says how far.
    pub async fn next(&mut self) -> Result<Option<Portion>, Error> {
        while !self.course.is_done() {
            let delivered = match self.arrived.take() {
                Some(delivered) => delivered,
                None => self.land().await?,
            };
            if delivered.status == Delivered::EMPTY && self.course.end.is_some() {
                // The log has lost its end since the fetcher began: nothing more will come.
                self.course.end = Some(self.course.position);
                break;
            }
            let has_passed = delivered.status == Delivered::PASSED;
            let portion = self.accept(delivered);
            if !self.course.is_done() && self.ahead.is_none() {
                self.ahead = Some(self.ask_ahead());
            }
            if has_passed || portion.record_count() > 0 || !portion.gaps().is_empty() {
                return Ok(Some(portion));
            }
        }
        self.ahead = None;
        Ok(None)
    }

    /// Where it ends, if it does: the high watermark of the start, or what was asked for.
    pub fn end_offset(&self) -> Option<u64> {
        self.course.end
    }

    /// The offset of the next record.
    pub fn position(&self) -> u64 {
        self.course.position
    }

    async fn land(&mut self) -> Result<Delivered, Error> {
        if self.ahead.is_none() {
            self.ahead = Some(self.ask_ahead());
        }
        let answer = match &mut self.ahead {
            Some(ahead) => ahead.answers.recv().await,
            None => None,
        };
        let landed = answer.unwrap_or_else(|| {
            let kind = ErrorKind::Closed;
            Err(Error::new(kind, "the task that asks for records has ended"))
        });
        if landed.is_err() {
            // The next call asks again, from where this one is.
            self.ahead = None;
        }
        landed
    }

    fn accept(&mut self, delivered: Delivered) -> Portion {
        let mut portion = Portion::new(self.topic.clone(), delivered);
        if let Some(end) = self.course.end {
            portion.end_before(end);
        }
        if let Some(left) = self.course.left {
            portion.limit(left);
        }
        self.course.position = portion.next_offset();
        self.course.spend(portion.record_count());
        portion
    }

    fn ask_ahead(&self) -> Ahead {
        let (sender, answers) = mpsc::channel(AHEAD);
        let asking = self.course.clone().follow(self.dialer.clone(), sender);
        Ahead {
            answers,
            _asking: AbortOnDropHandle::new(tokio::spawn(asking)),
        }
    }
}
