//! The broker killed with SIGKILL, and now and then stopped with SIGSTOP, again and again, under
//! nine producers and ten consumers, five of them with leases and with workers that crash.
//!
//! ```text
//!  start ─► register ─► [ wait for an event, perhaps SIGSTOP, SIGKILL, start again ] x kills ─► produce to
//!  the end ─► consume to the end ─► SIGKILL, start again ─► read all, sizes ─► check
//! ```
//!
//! Where the broker is killed is chosen by counts of events, and what is produced by dice; both
//! replay with `LOGDRIVE_SEED`, which every run prints. `LOGDRIVE_KILLS=1000` is the long form.
//! Nothing here judges records: players take notes, and the history checker knows the promises.
//!
//! | module | owns |
//! |---|---|
//! | [`plan`] | who takes part, what a record looks like, when the broker is killed |
//! | [`broker`] | the child process |
//! | [`course`] | what players see and tell |
//! | [`producers`], [`typed`] | who produces, with the client and without |
//! | [`readers`] | who reads |
//! | [`leases`] | who works through records with leases |
//! | [`noise`] | strangers |
//! | [`soak`] | trial after trial on one directory |

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod broker;
mod course;
mod leases;
mod noise;
mod plan;
mod producers;
mod readers;
mod soak;
mod typed;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fastrand::Rng;
use logdrive::history::{self, Recorder};
use logdrive_client::Client;
use logdrive_protocol::operations::Setting;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use broker::Broker;
use course::{Course, Crossing, Noted, Stage};
use plan::{CONSUMERS, DEAD, KEPT, LEASED, Moment, PRODUCERS, Point, Stop, TOPICS, TRIMMED};

/// How long nothing may happen before the trial gives up.
const PATIENCE: Duration = Duration::from_mins(2);
/// Kills without `LOGDRIVE_KILLS`.
const KILLS: u64 = 20;
/// Kills between two lines of progress.
const KILLS_TO_PROGRESS: u64 = 50;
/// Records acknowledged after the last kill, before producers come to an end.
const AFTERWARDS: u64 = 500;

#[test]
fn whoever_uses_a_broker_that_is_killed_again_and_again_sees_nothing_but_pauses() {
    let seed = plan::environment("LOGDRIVE_SEED").unwrap_or_else(|| fastrand::u64(..));
    let kills = plan::environment("LOGDRIVE_KILLS").unwrap_or(KILLS);
    println!("LOGDRIVE_SEED={seed} LOGDRIVE_KILLS={kills}");
    let begun = Instant::now();
    let mut trial = Trial::begin_on(Broker::start(), seed, false);
    trial.kill_again_and_again(kills);
    let told = trial.end(true);
    trial.broker.stop();
    let took = begun.elapsed();

    let report = history::check(told.notes);
    print!("{report}");
    let (crossed, stored) = crossings(&told.crossings, &trial.killed_at);
    println!(
        "{kills} kills, {} stops: {} records under way at one of them ({} at the least), {stored} of these \
         stored before it and answered by a broker that came after it; {} unknown outcomes, {} \
         only accepted; {} answers to consumers, {} bursts; {took:.1?}",
        trial.stops,
        told.crossings.len(),
        crossed.iter().min().unwrap_or(&0),
        told.unknown,
        told.accepted,
        *trial.course.answered.borrow(),
        *trial.course.bursts.borrow(),
    );
    assert!(report.is_clean(), "LOGDRIVE_SEED={seed}\n{report}");
    assert!(report.sizes_zero(), "LOGDRIVE_SEED={seed}\n{report}");
    assert_eq!(report.reported_lost, 0, "LOGDRIVE_SEED={seed}\n{report}");
    let idle: Vec<_> = (1..).zip(crossed).filter(|it| it.1 == 0).collect();
    assert!(
        idle.is_empty(),
        "LOGDRIVE_SEED={seed}: kills with nothing under way: {idle:?}"
    );
}

/// For each kill, the records handed over before it and acknowledged after it; and how many of all
/// were stored before the first kill that they went through, so that a retry was recognized.
fn crossings(crossings: &[Crossing], killed_at: &[u64]) -> (Vec<u64>, usize) {
    let mut crossed = vec![0; killed_at.len()];
    let mut stored = 0;
    for it in crossings {
        let kills = usize::try_from(it.kills).unwrap()..usize::try_from(it.deaths).unwrap();
        stored += usize::from(it.is_restarted && it.append_time < killed_at[kills.start]);
        for kill in kills {
            crossed[kill] += 1;
        }
    }
    (crossed, stored)
}

fn yield_to_others(times: u64) {
    for _ in 0..times {
        std::thread::yield_now();
    }
}

/// Creates all topics; one keeps few records.
async fn create_topics(client: &Client) {
    let keeps = [Setting {
        key: "retention_records".to_owned(),
        value: KEPT.to_owned(),
    }];
    for topic in TOPICS {
        let settings = if topic == TRIMMED { &keeps } else { &[][..] };
        client.create_topic(topic, settings, true).await.unwrap();
    }
}

/// What all players tell together.
#[derive(Default)]
struct Told {
    notes: Vec<Recorder>,
    crossings: Vec<Crossing>,
    unknown: u64,
    accepted: u64,
}

/// The trial under way.
struct Trial {
    broker: Broker,
    course: Course,
    stage: watch::Sender<Stage>,
    producers: JoinSet<Result<Noted, String>>,
    readers: JoinSet<Result<Recorder, String>>,
    _strangers: JoinSet<()>,
    /// The wall clock at each kill, in microseconds since 1970 UTC.
    killed_at: Vec<u64>,
    /// How often the broker stood still.
    stops: u64,
    dice: Rng,
    /// Last: players are told to end before it is.
    runtime: Runtime,
}

impl Trial {
    /// Starts the broker, and lets all players register before any begins: a client survives the
    /// loss of a broker, but its first connection needs one.
    fn begin_on(broker: Broker, seed: u64, noisy: bool) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (stage, shown) = watch::channel(Stage::default());
        let course = Course::new(seed, broker.address, shown);
        let (mut producers, mut readers) = (JoinSet::new(), JoinSet::new());
        let mut strangers = JoinSet::new();
        runtime.block_on(async {
            let client = course.connect("supervisor").await.unwrap();
            create_topics(&client).await;
            let mut workers = Vec::new();
            for plan in CONSUMERS {
                for number in 1..=plan.workers {
                    let worker = readers::Worker::open(&course, plan, number).await;
                    workers.push(worker.unwrap());
                }
            }
            let mut leased = Vec::new();
            for plan in LEASED {
                for number in 1..=plan.workers {
                    leased.push(leases::Worker::open(&course, plan, number).await.unwrap());
                }
            }
            let mut ready = Vec::new();
            for plan in PRODUCERS {
                ready.push(producers::Ready::open(&course, plan).await.unwrap());
            }
            let follower = readers::Follower::open(&course).await.unwrap();
            readers.spawn(readers::purge(client, course.clone()));
            readers.spawn(follower.run());
            for worker in workers {
                readers.spawn(worker.run());
            }
            for worker in leased {
                readers.spawn(worker.run());
            }
            for number in 0..if noisy { noise::STRANGERS } else { 0 } {
                strangers.spawn(noise::stranger(course.clone(), number));
            }
            producers.spawn(typed::run(course.clone()));
            for producer in ready {
                producers.spawn(producer.run());
            }
        });
        Self {
            broker,
            dice: plan::dice(seed, "supervisor"),
            course,
            stage,
            producers,
            readers,
            _strangers: strangers,
            killed_at: Vec::new(),
            stops: 0,
            runtime,
        }
    }

    fn kill_again_and_again(&mut self, kills: u64) {
        self.reach(Moment::Acknowledged(1));
        for kill in 1..=kills {
            let point = Point::choose(&mut self.dice);
            if !matches!(point.moment, Moment::Starting) {
                self.survived();
                self.reach(point.moment);
            }
            yield_to_others(point.yields);
            match point.stop {
                Stop::None => {}
                Stop::For(pause) => {
                    self.stand_still(pause);
                    if !matches!(point.moment, Moment::Starting) {
                        self.reach(point.moment);
                    }
                    yield_to_others(point.yields);
                }
                Stop::UntilKilled => {
                    self.broker.suspend();
                    self.stops += 1;
                }
            }
            self.stage.send_modify(|stage| stage.kills = kill);
            self.broker.kill();
            self.killed_at.push(wall());
            self.stage.send_modify(|stage| stage.deaths = kill);
            self.broker.start_again();
            if kill % KILLS_TO_PROGRESS == 0 {
                let records = *self.course.acknowledged.borrow();
                println!("{kill} kills of {kills}: {records} records acknowledged");
            }
        }
        self.survived();
        self.reach(Moment::Acknowledged(AFTERWARDS));
    }

    /// The same without kills: the broker stands still.
    fn stop_again_and_again(&mut self, stops: u64) {
        let mut stood_still: Option<Instant> = None;
        for _ in 0..stops {
            let point = Point::choose(&mut self.dice);
            self.reach(point.moment);
            yield_to_others(point.yields);
            let pause = match point.stop {
                Stop::For(pause) => pause,
                Stop::None | Stop::UntilKilled => Duration::ZERO,
            };
            // Whose connection a long one has cost him needs a broker that runs to come back in time.
            let too_soon = stood_still.is_some_and(|it| it.elapsed() < leases::RECLAIM);
            if pause == plan::LONG_STOP && too_soon {
                continue;
            }
            self.stand_still(pause);
            if pause == plan::LONG_STOP {
                stood_still = Some(Instant::now());
            }
        }
        self.reach(Moment::Acknowledged(AFTERWARDS));
    }

    fn stand_still(&mut self, pause: Duration) {
        self.broker.suspend();
        // The fault itself: nothing happens that could be awaited.
        std::thread::sleep(pause);
        self.broker.resume();
        self.stops += 1;
    }

    /// Waits until the broker is ready again, if it was killed.
    fn survived(&mut self) {
        let Stage {
            kills, survived, ..
        } = *self.stage.borrow();
        if survived < kills {
            self.broker.is_ready();
            self.stage.send_modify(|stage| stage.survived = kills);
        }
    }

    /// Waits for the event; a player that ends before has found a fault.
    fn reach(&mut self, moment: Moment) {
        let (counter, more) = match moment {
            Moment::Acknowledged(more) => (&self.course.acknowledged, more),
            Moment::Answered(more) => (&self.course.answered, more),
            Moment::Burst => (&self.course.bursts, 1),
            Moment::Starting => return,
        };
        let target = *counter.borrow() + more;
        let mut counter = counter.subscribe();
        let (producers, readers) = (&mut self.producers, &mut self.readers);
        let seed = self.course.seed;
        self.runtime.block_on(async {
            tokio::select! {
                reached = timeout(PATIENCE, counter.wait_for(|&count| count >= target)) => {
                    let reached = reached.map(|count| count.is_ok());
                    assert_eq!(reached, Ok(true), "LOGDRIVE_SEED={seed}: {moment:?} never came");
                }
                Some(ended) = producers.join_next() => {
                    panic!("LOGDRIVE_SEED={seed}: ended early: {:?}", ended.unwrap().err());
                }
                Some(ended) = readers.join_next() => {
                    panic!("LOGDRIVE_SEED={seed}: ended early: {:?}", ended.unwrap().err());
                }
            }
        });
    }

    /// Lets all players come to their end, kills the broker once more when nothing is under way, if
    /// that is wanted, and looks at everything.
    fn end(&mut self, kill: bool) -> Told {
        let mut told = Told::default();
        self.stage.send_modify(|stage| stage.finishing = true);
        for noted in self.all(|trial| &mut trial.producers) {
            told.notes.push(noted.recorder);
            told.crossings.extend(noted.crossings);
            told.unknown += noted.unknown;
            told.accepted += noted.accepted;
        }
        let last = self.runtime.block_on(producers::the_last(&self.course));
        told.notes.push(last.unwrap());
        self.stage.send_modify(|stage| stage.all_produced = true);
        told.notes.extend(self.all(|trial| &mut trial.readers));
        if kill {
            self.broker.kill();
            self.broker.start_again();
            self.broker.is_ready();
        }
        let course = &self.course;
        let last = self.runtime.block_on(async {
            let client = course.connect("supervisor").await?;
            readers::look_at_everything(&client).await
        });
        told.notes.push(last.unwrap());
        told
    }

    /// Deletes what the trial has left.
    fn clear(self) -> Broker {
        self.runtime.block_on(async {
            let client = self.course.connect("supervisor").await.unwrap();
            for topic in TOPICS.into_iter().chain([DEAD]) {
                client.delete_topic(topic).await.unwrap();
            }
        });
        self.broker
    }

    /// What the players came back with, all of them.
    fn all<N: 'static>(
        &mut self,
        players: impl Fn(&mut Self) -> &mut JoinSet<Result<N, String>>,
    ) -> Vec<N> {
        let mut all = Vec::new();
        let runtime = self.runtime.handle().clone();
        let seed = self.course.seed;
        while let Ok(Some(ended)) =
            runtime.block_on(async { timeout(PATIENCE, players(self).join_next()).await })
        {
            match ended.unwrap() {
                Ok(noted) => all.push(noted),
                Err(fault) => panic!("LOGDRIVE_SEED={seed}: {fault}"),
            }
        }
        let left = players(self).len();
        assert_eq!(left, 0, "LOGDRIVE_SEED={seed}: players that do not end");
        all
    }
}

/// Microseconds since 1970 UTC.
fn wall() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_micros()).unwrap()
}
