//! A worker of `bench lease` on a bare connection: each ack is a request of its own, all of an
//! answer on their way at once, and the next records are asked for meanwhile.
//!
//! Checks every batch, as a client must, and that each ack has acked as many records as it names.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytes::BytesMut;
use logdrive_client::{ConsumerRegistered, Failure};
use logdrive_protocol::WorkerId;
use logdrive_protocol::body::{Body, Writer};
use logdrive_protocol::frame::{self, FLAG_ERROR, Frame, FrameDecoder};
use logdrive_protocol::limits::MAX_FRAME_BYTES;
use logdrive_protocol::operations::{Ack, Acked, Consume, Delivered, Operation, Settled};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::codec::Decoder;

use super::super::connections;
use super::super::ground::Target;
use super::super::latencies::Latencies;
use super::{LEASE, Task, WAIT};

/// One worker with its connection.
pub(super) struct Bare {
    socket: TcpStream,
    frames: FrameDecoder,
    input: BytesMut,
    registered: ConsumerRegistered,
    worker: WorkerId,
    /// Of the next consume, or of the one under way.
    sequence: u64,
    /// Correlation of the last request.
    last: u32,
    /// When acks were sent, and of how many records.
    acks: HashMap<u32, (Instant, u64)>,
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

impl Bare {
    /// Connects.
    pub(super) async fn open(
        target: &Target,
        registered: &ConsumerRegistered,
    ) -> anyhow::Result<Self> {
        let socket = connections::open(target.address.parse()?).await?;
        socket.set_nodelay(true)?;
        Ok(Self {
            socket,
            frames: FrameDecoder::new(MAX_FRAME_BYTES),
            input: BytesMut::new(),
            registered: registered.clone(),
            worker: WorkerId(fastrand::u64(1..)),
            sequence: 1,
            // The first was the Hello.
            last: 1,
            acks: HashMap::new(),
        })
    }

    /// Works until all records are settled; how long each ack took.
    pub(super) async fn work(mut self, task: Task) -> anyhow::Result<Latencies> {
        let mut latencies = Latencies::new()?;
        let mut out = Writer::default();
        self.consume(&task, &mut out);
        while !task.is_done() {
            self.send(std::mem::take(&mut out)).await?;
            let frame = self.hear().await?;
            if let Some((sent, records)) = self.acks.remove(&frame.correlation) {
                let acked: Acked = answer(frame)?;
                ensure!(
                    acked.records == records,
                    "an ack of {records} records has acked {}",
                    acked.records
                );
                latencies.record(sent.elapsed());
                task.settle(records);
            } else {
                let delivered: Delivered = answer(frame)?;
                self.delivered(delivered, &task, &mut out)?;
            }
        }
        Ok(latencies)
    }

    fn delivered(
        &mut self,
        mut delivered: Delivered,
        task: &Task,
        out: &mut Writer,
    ) -> anyhow::Result<()> {
        if delivered.status == Delivered::SOME {
            delivered.check(self.registered.topic)?;
            self.sequence += 1;
            let looked = delivered.records().count() as u64;
            let count = delivered.record_count();
            ensure!(looked == count, "{looked} records were sent, not {count}");
            if task.leases {
                for settled in portions(&delivered, task.ack) {
                    self.ack(settled, out);
                }
            } else {
                task.settle(count);
            }
        }
        self.consume(task, out);
        Ok(())
    }

    fn consume(&mut self, task: &Task, out: &mut Writer) {
        let consume = Consume {
            topic: self.registered.topic,
            consumer: self.registered.consumer,
            worker: self.worker,
            sequence: self.sequence,
            max_records: task.answer,
            max_wait_ms: millis(WAIT),
            lease_ms: if task.leases { millis(LEASE) } else { 0 },
            ..Consume::default()
        };
        self.request(&consume, out);
    }

    fn ack(&mut self, settled: Vec<Settled>, out: &mut Writer) {
        let records = settled.iter().map(|it| it.to - it.from).sum();
        let ack = Ack {
            topic: self.registered.topic,
            consumer: self.registered.consumer,
            worker: self.worker,
            settled,
        };
        self.request(&ack, out);
        self.acks.insert(self.last, (Instant::now(), records));
    }

    fn request<O: Operation>(&mut self, request: &O, out: &mut Writer) {
        self.last += 1;
        frame::append(out, O::OPCODE, 0, self.last, request);
    }

    async fn send(&mut self, out: Writer) -> anyhow::Result<()> {
        for part in out.into_parts() {
            self.socket.write_all(&part).await?;
        }
        Ok(())
    }

    async fn hear(&mut self) -> anyhow::Result<Frame> {
        loop {
            if let Some(frame) = self.frames.decode(&mut self.input)? {
                return Ok(frame);
            }
            if self.socket.read_buf(&mut self.input).await? == 0 {
                bail!("the broker closed a worker's connection");
            }
        }
    }
}

fn answer<B: Body>(frame: Frame) -> anyhow::Result<B> {
    if frame.flags & FLAG_ERROR != 0 {
        let failure = Failure::from_bytes(frame.body)?;
        bail!("the broker refused a worker's request: {failure}");
    }
    B::from_bytes(frame.body).context("an answer is none")
}

/// The delivered offsets in portions of so many records.
fn portions(delivered: &Delivered, each: u64) -> Vec<Vec<Settled>> {
    let mut portions = Vec::new();
    let (mut portion, mut room) = (Vec::new(), each);
    for range in &delivered.ranges {
        let mut from = range.from;
        while from < range.to {
            let to = range.to.min(from + room);
            let lease = range.lease;
            portion.push(Settled { lease, from, to });
            room -= to - from;
            from = to;
            if room == 0 {
                portions.push(std::mem::take(&mut portion));
                room = each;
            }
        }
    }
    if !portion.is_empty() {
        portions.push(portion);
    }
    portions
}

#[cfg(test)]
mod tests {
    use logdrive_protocol::operations::Range;

    use super::*;

    #[test]
    fn an_answer_is_acked_in_portions_across_its_ranges() {
        let range = |(from, to)| Range {
            from,
            to,
            deliveries: 0,
            lease: 7,
        };
        let delivered = Delivered {
            ranges: [(0, 150), (200, 260), (300, 301)].map(range).into(),
            ..Delivered::default()
        };
        let shown: Vec<String> = portions(&delivered, 100)
            .iter()
            .map(|portion| {
                let one = |it: &Settled| format!("{}..{}", it.from, it.to);
                portion.iter().map(one).collect::<Vec<_>>().join("+")
            })
            .collect();
        assert_eq!(
            shown.join(" "),
            "0..100 100..150+200..250 250..260+300..301"
        );
    }
}
