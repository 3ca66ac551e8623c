//! Who works through records with leases: acks them, gives some back, and crashes now and then.
//!
//! ```text
//!   open ─► get a portion ─► note it ─► ack, give back ─► note what was answered ─┐
//!    ^           ^  '────────────── crash ─────'────────► note what is unknown ─┐ │
//!    │           └──────────────────────────────────────────────────────────────┼─┘
//!    └── a new worker, on a new connection ◄────────────────────────────────────┘
//! ```
//!
//! Every error but a lost lease is a fault. The clock of leases follows the wall clock by one part in
//! two hundred, so that what is noted as lasting a second lasts a little less.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use logdrive_client::{Consumer, ConsumerOptions, Error, Portion, Record};
use logdrive_protocol::operations::Setting;
use logdrive_protocol::{ErrorCode, WorkerId};

use super::course::{Course, Stage};
use super::plan::{self, LeasePlan, fingerprint_of};
use super::readers::{known, note_gaps};
use super::trace;
use crate::history::{Lease, Lent, Read, Recorder, Verdict, fingerprint};

/// How long after the end of a connection a broker gives to others what was leased on it.
const RECLAIM: Duration = Duration::from_secs(5);
/// Records at a time.
const RECORDS: u32 = 12;
/// How often in a row a worker waits a second for what others hold, at the end.
const WAITS: u32 = 30;
/// Of so many portions one ends in a crash, as long as there are crashes left.
const PORTIONS_TO_A_CRASH: u32 = 8;
/// Of so many portions one is settled only after a while, perhaps too late.
const PORTIONS_TO_A_DELAY: u32 = 8;
/// Of so many portions one is settled record by record.
const PORTIONS_TO_A_CLOSE_LOOK: u32 = 3;
/// Of so many records, looked at one by one, one is given back.
const RECORDS_TO_A_NACK: u32 = 12;

/// One worker after the other, with the same notes.
pub(super) struct Worker {
    plan: LeasePlan,
    course: Course,
    player: String,
    dice: Rng,
    crashes: u32,
    taker: Taker,
    notes: Recorder,
}

/// One worker as long as it lives.
struct Taker {
    id: u64,
    consumer: Consumer,
    /// For each topic, a time before its next records are asked for.
    asked: BTreeMap<&'static str, u64>,
}

/// What is to be done with a record.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    /// Together with others.
    Ack,
    AckAlone,
    Nack,
}

impl Worker {
    /// Connects and registers.
    pub(super) async fn open(
        course: &Course,
        plan: LeasePlan,
        number: usize,
    ) -> Result<Self, Error> {
        let player = format!("{}.{number}", plan.name);
        let mut dice = plan::dice(course.seed, &player);
        let taker = Taker::open(course, plan, &player, dice.u64(1..)).await?;
        for topic in plan.topics {
            course.has_read(plan.name, topic, 0);
        }
        Ok(Self {
            plan,
            course: course.clone(),
            player,
            dice,
            crashes: plan.crashes,
            taker,
            notes: Recorder::new(),
        })
    }

    /// Works until everything is produced and nothing is left.
    pub(super) async fn run(mut self) {
        let (course, player) = (self.course.clone(), self.player.clone());
        course.says(&player, "works");
        match self.work().await {
            Ok(()) => {
                self.taker.consumer.close().await;
            }
            Err(fault) => course.fault(format!("{player}: {fault}")),
        }
        course.hand_in(self.notes);
        course.says(&player, "is done");
    }

    async fn work(&mut self) -> Result<(), String> {
        loop {
            let portion = tokio::select! {
                biased;
                portion = self.taker.consumer.get_batch(None) => portion,
                () = self.course.reach(Stage::Ending) => break,
            };
            match portion.map_err(|error| format!("{error:?}"))? {
                Some(portion) => self.process(&portion).await?,
                None => return Err("a wait without an end has ended".to_owned()),
            }
        }
        let mut waits = 0;
        while waits < WAITS {
            let consumer = &mut self.taker.consumer;
            let mut portion = consumer.get_batch(Some(Duration::ZERO)).await;
            if matches!(portion, Ok(None)) && consumer.is_held() {
                // Others have what is left, or a lease of one that crashed is not over.
                portion = consumer.get_batch(Some(Duration::from_secs(1))).await;
            } else if matches!(portion, Ok(None)) {
                return Ok(());
            }
            waits += 1;
            if let Some(portion) = portion.map_err(|error| format!("{error:?}"))? {
                self.process(&portion).await?;
                waits = 0;
            }
        }
        Err("what is left is held, and nobody holds it".to_owned())
    }

    /// Notes a portion, settles it, and perhaps crashes before, meanwhile or afterwards.
    async fn process(&mut self, portion: &Portion) -> Result<(), String> {
        self.course.happened();
        note_gaps(&self.course, &mut self.notes, portion, self.plan.name)?;
        let received = trace::micros();
        let topic = known(portion.topic());
        let asked = self.taker.asked.insert(topic, received).unwrap_or_default();
        let Some(number) = portion.lease().map(logdrive_client::Lease::number) else {
            // Gaps alone have none.
            let lends = portion.record_count() > 0;
            return (!lends)
                .then_some(())
                .ok_or_else(|| "records without a lease".to_owned());
        };
        let lease = Lease {
            topic,
            consumer: self.plan.name,
            worker: self.taker.id,
            number,
            asked,
            received,
            lasts: u64::try_from(self.plan.lease.as_micros()).unwrap() * 99 / 100,
        };
        let records: Vec<_> = portion.records().map(|it| portion.owned(&it)).collect();
        for record in &records {
            self.notes.lent(lease, self.lent(record));
            self.course
                .has_read(self.plan.name, topic, record.offset + 1);
        }
        if !self.course.is_finishing() && self.dice.u32(..PORTIONS_TO_A_DELAY) == 0 {
            let most = u64::try_from(self.plan.lease.as_millis()).unwrap() * 3 / 2;
            let pause = self.dice.u64(..most);
            self.course.pause(pause).await;
        }
        self.settle(lease, portion, &records).await
    }

    /// Acks and gives back, and perhaps crashes meanwhile: what was answered then is unknown.
    async fn settle(
        &mut self,
        lease: Lease<'static>,
        portion: &Portion,
        records: &[Record],
    ) -> Result<(), String> {
        let actions = self.choose(records);
        let sent = trace::micros();
        let crashes = self.crashes > 0 && !self.course.is_finishing();
        let crashes = crashes && self.dice.u32(..PORTIONS_TO_A_CRASH) == 0;
        let after = self.dice.u64(..80);
        let settled = settle(&self.taker.consumer, portion, records, &actions);
        let verdicts = tokio::select! {
            biased;
            verdicts = settled => Some(verdicts?),
            () = tokio::time::sleep(Duration::from_millis(after)), if crashes => None,
        };
        for (at, record) in records.iter().enumerate() {
            let verdict = match (&verdicts, actions[at]) {
                (Some(verdicts), _) => verdicts[at],
                (None, Action::Nack) => Verdict::NackUnknown,
                (None, _) => Verdict::AckUnknown,
            };
            self.notes.settled(lease, record.offset, sent, verdict);
        }
        self.course.happened();
        if crashes { self.crash().await } else { Ok(()) }
    }

    fn lent(&self, record: &Record) -> Lent {
        let key = record.key.as_ref().filter(|_| self.plan.is_keyed());
        Lent {
            read: Read {
                offset: record.offset,
                fingerprint: fingerprint_of(&record.value),
            },
            deliveries: record.deliveries,
            key: key.map_or(0, |key| fingerprint("key", 0, key)),
        }
    }

    fn choose(&mut self, records: &[Record]) -> Vec<Action> {
        let close = self.dice.u32(..PORTIONS_TO_A_CLOSE_LOOK) == 0;
        let finishing = self.course.is_finishing();
        let mut actions = Vec::with_capacity(records.len());
        for record in records {
            let sequence = plan::sequence_of(&record.value).unwrap_or_default();
            let is_poisoned = self.plan.poison > 0 && sequence % self.plan.poison == 1;
            let fails = close && !finishing && self.dice.u32(..RECORDS_TO_A_NACK) == 0;
            let alone = close && self.dice.u8(..4) == 0;
            actions.push(match (is_poisoned || fails, alone) {
                (true, _) => Action::Nack,
                (false, true) => Action::AckAlone,
                (false, false) => Action::Ack,
            });
        }
        actions
    }

    /// Ends without a word, and begins again as another.
    async fn crash(&mut self) -> Result<(), String> {
        self.crashes -= 1;
        let old = self.taker.id;
        let before = trace::micros();
        trace::note("crashes", old, self.player.as_bytes());
        loop {
            let id = self.dice.u64(1..);
            match Taker::open(&self.course, self.plan, &self.player, id).await {
                // The old one is dropped with this, and its connection with it.
                Ok(taker) => break self.taker = taker,
                Err(error) if error.is_retryable() => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => return Err(format!("{error:?}")),
            }
        }
        let from = before + u64::try_from(RECLAIM.as_micros()).unwrap() * 99 / 100;
        for topic in self.plan.topics {
            self.notes.gone(topic, self.plan.name, old, from);
        }
        Ok(())
    }
}

impl Taker {
    async fn open(course: &Course, plan: LeasePlan, player: &str, id: u64) -> Result<Self, Error> {
        let setting = |&(key, value): &(&str, &str)| Setting {
            key: key.to_owned(),
            value: value.to_owned(),
        };
        let options = ConsumerOptions {
            max_records: RECORDS,
            worker: Some(WorkerId(id)),
            lease: Some(plan.lease),
            settings: plan.settings.iter().map(setting).collect(),
            ..ConsumerOptions::default()
        };
        let client = course.connect_at_last(player).await?;
        let consumer = client.consumer(plan.name, plan.topics, options).await?;
        let now = trace::micros();
        Ok(Self {
            id,
            consumer,
            asked: plan.topics.iter().map(|&topic| (topic, now)).collect(),
        })
    }
}

/// Does what is to be done with each record; what was answered, in their order.
async fn settle(
    consumer: &Consumer,
    portion: &Portion,
    records: &[Record],
    actions: &[Action],
) -> Result<Vec<Verdict>, String> {
    if actions.iter().all(|it| *it == Action::Ack) {
        let acked = is_done(consumer.ack_portion(portion).await)?;
        return Ok(vec![together(acked); records.len()]);
    }
    let mut verdicts = Vec::with_capacity(records.len());
    let mut later = Vec::new();
    for (at, (record, action)) in records.iter().zip(actions).enumerate() {
        verdicts.push(match action {
            Action::Nack if is_done(consumer.nack(record, Duration::ZERO).await)? => {
                Verdict::Nacked
            }
            Action::Nack => Verdict::NackUnknown,
            Action::AckAlone if is_done(consumer.ack(record).await)? => {
                Verdict::Acked(trace::micros())
            }
            Action::AckAlone => Verdict::AckRefused(trace::micros()),
            Action::Ack => {
                is_done(consumer.ack_later(record).await)?;
                later.push(at);
                Verdict::AckUnknown
            }
        });
    }
    let acked = is_done(consumer.settled().await)?;
    for at in later {
        verdicts[at] = together(acked);
    }
    Ok(verdicts)
}

/// What became of each of several that were acked together.
fn together(all: bool) -> Verdict {
    if all {
        Verdict::Acked(trace::micros())
    } else {
        Verdict::AckUnknown
    }
}

/// Whether it was done; else the lease was over.
fn is_done(result: Result<(), Error>) -> Result<bool, String> {
    match result {
        Ok(()) => Ok(true),
        Err(error)
            if matches!(
                error.code(),
                Some(ErrorCode::LeaseLost | ErrorCode::NotLeased)
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(format!("{error:?}")),
    }
}
