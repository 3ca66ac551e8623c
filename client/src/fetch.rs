//! Reading a topic without changing anything.
//!
//! One answer is with the caller while the next is under way: asked for as soon as the last has
//! arrived, never further ahead.

use std::sync::Arc;

use logdrive_protocol::operations::{Delivered, Fetch};
use logdrive_protocol::{Position, TopicId};

use crate::dialer::Dialer;
use crate::link::Parking;
use crate::reading::{self, LONG_POLL, Pending};
use crate::{Client, End, Error, FetchOptions, Portion};

/// Reads a topic answer by answer; the next one is asked for while the last is used.
///
/// A lost connection is a pause: it asks again from where it was, as long as
/// [`retry_for`](crate::Options::retry_for) says. After an error the next call asks again.
#[derive(Debug)]
pub struct Fetcher {
    dialer: Dialer,
    topic: Arc<str>,
    id: TopicId,
    /// The next offset to hand out.
    position: u64,
    end: Option<u64>,
    /// Records that may still be handed out.
    left: u64,
    max_bytes: u32,
    /// What arrived and was not handed out.
    arrived: Option<Delivered>,
    pending: Option<Pending>,
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
        let mut fetcher = Self {
            dialer: client.dialer().clone(),
            topic: topic.into(),
            id,
            position: 0,
            end: before,
            left: match options.max_records {
                0 => u64::MAX,
                most => most,
            },
            max_bytes: options.max_bytes,
            arrived: None,
            pending: None,
        };
        let asked = match from {
            Position::Offset(offset) => Some(offset),
            _ => None,
        };
        let first = fetcher.ask(from, asked, false);
        let first = reading::joined(first.await).result?;
        let first_gap = first.gaps.first().map(|gap| gap.from);
        let first_range = first.ranges.first().map(|range| range.from);
        fetcher.position = first_gap.or(first_range).unwrap_or(first.next);
        if options.end != End::Follow {
            let watermark = first.high_watermark;
            fetcher.end = Some(before.map_or(watermark, |before| before.min(watermark)));
        }
        fetcher.arrived = Some(first);
        Ok(fetcher)
    }

    /// The next records; `None` at the end. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<Portion>, Error> {
        while !self.is_done() {
            let delivered = match self.arrived.take() {
                Some(delivered) => delivered,
                None => self.land().await?,
            };
            if delivered.status == Delivered::EMPTY && self.end.is_some() {
                // The log has lost its end since the fetcher began: nothing more will come.
                self.end = Some(self.position);
                return Ok(None);
            }
            let portion = self.accept(delivered);
            if !self.is_done() && self.pending.is_none() {
                let next = self.ask_on();
                self.pending = Some(next);
            }
            if portion.record_count() > 0 || !portion.gaps().is_empty() {
                return Ok(Some(portion));
            }
        }
        self.pending = None;
        Ok(None)
    }

    /// Where it ends, if it does: the high watermark of the start, or what was asked for.
    pub fn end_offset(&self) -> Option<u64> {
        self.end
    }

    /// The offset of the next record.
    pub fn position(&self) -> u64 {
        self.position
    }

    fn is_done(&self) -> bool {
        self.left == 0 || self.end.is_some_and(|end| self.position >= end)
    }

    async fn land(&mut self) -> Result<Delivered, Error> {
        if self.pending.is_none() {
            self.pending = Some(self.ask_on());
        }
        let Some(pending) = &mut self.pending else {
            return Ok(Delivered::default());
        };
        let landed = reading::joined(pending.await);
        self.pending = None;
        landed.result
    }

    fn accept(&mut self, delivered: Delivered) -> Portion {
        let mut portion = Portion::new(self.topic.clone(), delivered);
        if let Some(end) = self.end {
            portion.end_before(end);
        }
        portion.limit(self.left);
        self.position = portion.next_offset();
        self.left -= portion.record_count();
        portion
    }

    fn ask_on(&self) -> Pending {
        let from = Position::Offset(self.position);
        self.ask(from, Some(self.position), self.end.is_none())
    }

    fn ask(&self, from: Position, asked: Option<u64>, waits: bool) -> Pending {
        let parking = Parking {
            wait: if waits {
                LONG_POLL
            } else {
                std::time::Duration::ZERO
            },
            topic: Some(self.id),
        };
        let fetch = Fetch {
            topic: self.id,
            from,
            max_records: u32::try_from(self.left).unwrap_or(0),
            max_bytes: self.max_bytes,
            max_wait_ms: u32::try_from(parking.wait.as_millis()).unwrap_or(u32::MAX),
            leader_epoch: 0,
        };
        reading::begin(&self.dialer, fetch, asked, parking)
    }
}
