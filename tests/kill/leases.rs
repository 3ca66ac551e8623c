//! Who works through records with leases: acks them, gives some back, and crashes now and then.
//!
//! ```text
//!   open ─► get a portion ─► note it ─► ack, give back ─► note what was answered ─┐
//!    ^           ^  '────────────── crash ─────'────────► note what is unknown ─┐ │
//!    │           └──────────────────────────────────────────────────────────────┼─┘
//!    └── a new worker, on a new connection ◄────────────────────────────────────┘
//! ```
//!
//! A worker that crashes drops its consumer and its connection, at any point, and says nothing to
//! the broker. Its notes live on. Some portions are put aside, perhaps with an extended lease, and
//! settled when another one is put aside, in time or not. Every error but a lost lease is a fault.

use std::collections::HashMap;
use std::time::Duration;

use fastrand::Rng;
use logdrive::history::{Lease, Lent, Read, Recorder, Verdict, fingerprint};
use logdrive_client::{Consumer, ConsumerOptions, Error, Portion, Record};
use logdrive_protocol::operations::Setting;
use logdrive_protocol::{ErrorCode, WorkerId};

use crate::course::{Course, Stage};
use crate::plan::{self, LeasePlan, fingerprint_of};
use crate::readers::note_gaps;

/// How long after the end of a connection a broker gives to others what was leased on it.
pub(crate) const RECLAIM: Duration = Duration::from_secs(5);
/// Records at a time.
const RECORDS: u32 = 250;
/// How often in a row a worker waits a second for what others hold, at the end. No lease lasts so long
/// whose worker is gone: then the broker holds back records from all for ever.
const WAITS: u32 = 45;
/// Of so many portions one ends in a crash, as long as there are crashes left.
const PORTIONS_TO_A_CRASH: u32 = 12;
/// Of so many portions one is put aside.
const PORTIONS_TO_ONE_ASIDE: u32 = 10;
/// Of so many portions one is settled record by record.
const PORTIONS_TO_A_CLOSE_LOOK: u32 = 4;
/// Of so many records, looked at one by one, one is given back.
const RECORDS_TO_A_NACK: u32 = 24;
/// Records of a portion that are acked one by one.
const ONE_BY_ONE: usize = 4;

/// One worker after the other, with the same notes.
pub(crate) struct Worker {
    plan: LeasePlan,
    course: Course,
    player: String,
    dice: Rng,
    crashes: u32,
    taker: Taker,
    aside: Option<Aside>,
    notes: Recorder,
}

/// A portion that is not settled yet.
struct Aside {
    lease: Lease<'static>,
    portion: Portion,
    records: Vec<Record>,
}

/// One worker as long as it lives.
struct Taker {
    id: u64,
    consumer: Consumer,
    /// For each topic, a time before its next records are asked for.
    asked: HashMap<&'static str, u64>,
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
    pub(crate) async fn open(
        course: &Course,
        plan: LeasePlan,
        number: usize,
    ) -> Result<Self, Error> {
        let player = format!("{}.{number}", plan.name);
        let mut dice = plan::dice(course.seed, &player);
        let taker = Taker::open(course, plan, &player, dice.u64(1..)).await?;
        Ok(Self {
            plan,
            course: course.clone(),
            player,
            dice,
            crashes: plan.crashes,
            taker,
            aside: None,
            notes: Recorder::new(),
        })
    }

    /// Works until everything is produced and nothing is left.
    pub(crate) async fn run(mut self) -> Result<Recorder, String> {
        let worked = self.work().await;
        worked.map_err(|fault| format!("{}: {fault}", self.player))?;
        self.taker.consumer.close().await;
        Ok(self.notes)
    }

    async fn work(&mut self) -> Result<(), String> {
        let mut stage = self.course.stage.clone();
        loop {
            // Giving up the wait loses nothing: the consumer keeps its request.
            let portion = tokio::select! {
                portion = self.taker.consumer.get_batch(None) => portion,
                _ = stage.wait_for(|stage| stage.all_produced) => break,
            };
            match portion.map_err(|error| error.to_string())? {
                Some(portion) => self.process(portion).await?,
                None => return Err("a wait without an end has ended".to_owned()),
            }
            if self.plan.pause > 0 {
                self.course.acknowledgements(self.plan.pause).await;
            }
        }
        self.settle_aside().await?;
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
            if let Some(portion) = portion.map_err(|error| error.to_string())? {
                self.process(portion).await?;
                waits = 0;
            }
        }
        Err("what is left is held, and nobody holds it".to_owned())
    }

    /// Notes a portion, settles it, and perhaps crashes before, meanwhile or afterwards.
    async fn process(&mut self, portion: Portion) -> Result<(), String> {
        note_gaps(&mut self.notes, &portion, self.plan.name)?;
        let received = self.course.clock();
        let topic = self.topic(&portion);
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
            lasts: u64::try_from(self.plan.lease.as_micros()).unwrap(),
        };
        let records: Vec<_> = portion.records().map(|it| portion.owned(&it)).collect();
        for record in &records {
            self.notes.lent(lease, self.lent(record));
        }
        let aside = Aside {
            lease,
            portion,
            records,
        };
        let puts_aside = self.dice.u32(..PORTIONS_TO_ONE_ASIDE) == 0;
        if !puts_aside || self.course.now().finishing {
            return self.settle(&aside).await;
        }
        if self.dice.bool() {
            self.extend(&aside).await?;
        }
        let worker = self.taker.id;
        self.settle_aside().await?;
        // What a crash ended meanwhile is no lease of the new worker.
        if self.taker.id == worker {
            self.aside = Some(aside);
        }
        Ok(())
    }

    /// Lets a lease run from now on for twice the time.
    async fn extend(&mut self, aside: &Aside) -> Result<(), String> {
        let (sent, lasts) = (self.course.clock(), self.plan.lease * 2);
        let Some(first) = aside.records.first() else {
            return Ok(());
        };
        if is_done(self.taker.consumer.extend(first, lasts).await)? {
            let lasts = u64::try_from(lasts.as_micros()).unwrap();
            self.notes.extended(aside.lease, sent, lasts);
        }
        Ok(())
    }

    async fn settle_aside(&mut self) -> Result<(), String> {
        match self.aside.take() {
            Some(aside) => self.settle(&aside).await,
            None => Ok(()),
        }
    }

    /// Acks and gives back, and perhaps crashes meanwhile: what was answered then is unknown.
    async fn settle(&mut self, aside: &Aside) -> Result<(), String> {
        let Aside {
            lease,
            portion,
            records,
        } = aside;
        let actions = self.choose(records);
        let sent = self.course.clock();
        let crashes = self.crashes > 0 && !self.course.now().finishing;
        let crashes = crashes && self.dice.u32(..PORTIONS_TO_A_CRASH) == 0;
        let yields = crashes.then(|| plan::magnitude(&mut self.dice, 8));
        let settled = settle(
            &self.taker.consumer,
            &self.course,
            portion,
            records,
            &actions,
        );
        let verdicts = tokio::select! {
            biased;
            () = yielding(yields) => None,
            verdicts = settled => Some(verdicts?),
        };
        for (at, record) in records.iter().enumerate() {
            let verdict = match (&verdicts, actions[at]) {
                (Some(verdicts), _) => verdicts[at],
                (None, Action::Nack) => Verdict::NackUnknown,
                (None, _) => Verdict::AckUnknown,
            };
            self.notes.settled(*lease, record.offset, sent, verdict);
        }
        if crashes { self.crash().await } else { Ok(()) }
    }

    /// The topic's name as the plan has it.
    fn topic(&self, portion: &Portion) -> &'static str {
        let mut topics = self.plan.topics.iter();
        topics.find(|it| ***it == **portion.topic()).unwrap()
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
        let finishing = self.course.now().finishing;
        let mut actions = Vec::with_capacity(records.len());
        for (at, record) in records.iter().enumerate() {
            let sequence = plan::sequence_of(&record.value).unwrap_or_default();
            let is_poisoned = self.plan.poison > 0 && sequence % self.plan.poison == 1;
            let fails = close && !finishing && self.dice.u32(..RECORDS_TO_A_NACK) == 0;
            actions.push(match at {
                _ if is_poisoned || fails => Action::Nack,
                _ if close && at < ONE_BY_ONE => Action::AckAlone,
                _ => Action::Ack,
            });
        }
        actions
    }

    /// Ends without a word, and begins again as another.
    async fn crash(&mut self) -> Result<(), String> {
        self.crashes -= 1;
        self.aside = None;
        let old = self.taker.id;
        let up = |stage: &Stage| stage.survived == stage.kills;
        let mut stage = self.course.stage.clone();
        let before = self.course.clock();
        loop {
            stage
                .wait_for(up)
                .await
                .map_err(|error| error.to_string())?;
            let id = self.dice.u64(1..);
            match Taker::open(&self.course, self.plan, &self.player, id).await {
                // The old one is dropped with this, and its connection with it.
                Ok(taker) => break self.taker = taker,
                // It was killed again meanwhile, and the stage will say so.
                Err(error) if error.is_retryable() => tokio::task::yield_now().await,
                Err(error) => return Err(error.to_string()),
            }
        }
        let from = before + u64::try_from(RECLAIM.as_micros()).unwrap();
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
        let client = course.connect(player).await?;
        let consumer = client.consumer(plan.name, plan.topics, options).await?;
        let now = course.clock();
        Ok(Self {
            id,
            consumer,
            asked: plan.topics.iter().map(|&topic| (topic, now)).collect(),
        })
    }
}

/// Offers the processor to others so often; for ever without a number.
async fn yielding(times: Option<u64>) {
    let Some(times) = times else {
        return std::future::pending().await;
    };
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}

/// Does what is to be done with each record; what was answered, in their order.
async fn settle(
    consumer: &Consumer,
    course: &Course,
    portion: &Portion,
    records: &[Record],
    actions: &[Action],
) -> Result<Vec<Verdict>, String> {
    if actions.iter().all(|it| *it == Action::Ack) {
        let acked = is_done(consumer.ack_portion(portion).await)?;
        return Ok(vec![together(acked, course); records.len()]);
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
                Verdict::Acked(course.clock())
            }
            Action::AckAlone => Verdict::AckRefused(course.clock()),
            Action::Ack => {
                is_done(consumer.ack_later(record).await)?;
                later.push(at);
                Verdict::AckUnknown
            }
        });
    }
    let acked = is_done(consumer.settled().await)?;
    for at in later {
        verdicts[at] = together(acked, course);
    }
    Ok(verdicts)
}

/// What became of each of several that were acked together.
fn together(all: bool, course: &Course) -> Verdict {
    if all {
        Verdict::Acked(course.clock())
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
        Err(error) => Err(error.to_string()),
    }
}
