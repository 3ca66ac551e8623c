//! One simulation from its seed to its verdict.
//!
//! ```text
//!  opening ─► stormy ─► finishing ─────────► calm ─────────────────► ending ─► broker starts again
//!  register   faults    producers end        readers must follow      drain     ─► look at all ─► check
//! ```
//!
//! Owns the order of things. Nothing here judges records: players take notes, and the history checker
//! knows the promises. What never ends is ended by a bound of simulated time, with a word of who
//! waits for what.

use std::cell::Cell;
use std::sync::Once;
use std::time::Duration;

use logdrive_client::{Client, Error, ProducerOptions};
use logdrive_protocol::operations::Setting;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use turmoil::Sim;

use super::course::{Course, Stage};
use super::faults::{HOSTS, Storm};
use super::host::{self, Machine};
use super::plan::{self, CONSUMERS, DEAD, KEPT, LEASED, PRODUCERS, TOPICS, TRIMMED};
use super::{leases, producers, readers, trace, wire};
use crate::history::{self, Recorder};
use crate::planted::{self, Bug};

/// The network and all hosts go on by so much at a time.
const TICK: Duration = Duration::from_millis(4);
/// How long nothing may happen.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long a reader may be behind when nothing fails; less than any request waits by itself.
const CALM_PATIENCE: Duration = Duration::from_secs(10);
/// Records after each other that must reach every reader then, to each topic.
const CALM_ROUNDS: u64 = 4;
/// No simulation is longer.
const LONGEST: Duration = Duration::from_mins(10);

/// What became of a simulation.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Of everything that happened.
    pub(super) digest: u64,
    pub(super) acknowledged: u64,
    /// Starts of the broker.
    pub(super) starts: u64,
    pub(super) simulated: Duration,
    /// What was found, if something was.
    pub(super) verdict: Result<(), String>,
}

thread_local! {
    static PANICS: Cell<u64> = const { Cell::new(0) };
}

/// A task that panics is otherwise nobody's business: a broker would go on without it.
fn count_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            before(info);
        }));
    });
    PANICS.set(0);
}

/// Runs the simulation of a seed, with a bug if one is given; `told` keeps the events in words.
pub(super) fn run(seed: u64, bug: Option<Bug>, told: bool) -> Outcome {
    count_panics();
    planted::plant(bug);
    fastrand::seed(seed);
    trace::begin(told);
    wire::begin();
    host::set_slowest_write(2);
    let mut dice = plan::dice(seed, "simulation");
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .tick_duration(TICK)
        .simulation_duration(LONGEST)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(dice.u64(2..40)))
        .build();
    let machine = Machine::new(seed);
    let course = Course::new(seed);
    let broker = machine.clone();
    sim.host(host::NAME, move || broker.clone().serve());
    for (host, &name) in HOSTS.iter().enumerate() {
        match name {
            host::NAME => {}
            "supervisor" => sim.client(name, supervise(course.on(host))),
            _ => sim.client(name, clients(course.on(host))),
        }
    }
    let storm = Storm::new(dice, machine.clone());
    let ended = Conductor {
        sim,
        course: course.clone(),
        machine: machine.clone(),
        storm,
        moved: (0, Duration::ZERO),
    }
    .conduct();
    let (simulated, ended) = ended;
    let verdict = ended.and_then(|()| judge(&course));
    trace::note("calls of the disk", machine.disk().calls(), &[]);
    let digest = trace::digest();
    Outcome {
        digest,
        acknowledged: course.acknowledgements(),
        starts: machine.starts(),
        simulated,
        verdict,
    }
}

fn judge(course: &Course) -> Result<(), String> {
    let report = history::check(course.take_notes());
    if report.is_clean() && report.sizes_zero() {
        Ok(())
    } else {
        Err(report.to_string())
    }
}

/// Who steps through it, from outside of all hosts.
struct Conductor<'a> {
    sim: Sim<'a>,
    course: Course,
    machine: Machine,
    storm: Storm,
    /// The progress that was seen last, and when.
    moved: (u64, Duration),
}

impl Conductor<'_> {
    /// Until all clients are at their end, or nothing happens any more.
    fn conduct(mut self) -> (Duration, Result<(), String>) {
        let ended = loop {
            trace::set_now(self.sim.elapsed());
            if let Some(fault) = self.course.first_fault() {
                break Err(fault);
            }
            if PANICS.get() > 0 {
                break Err("something has panicked".to_owned());
            }
            if let Err(verdict) = self.watch() {
                break Err(verdict);
            }
            self.direct();
            match self.sim.step() {
                Ok(false) => {}
                Ok(true) => break Ok(()),
                Err(error) => break Err(error.to_string()),
            }
        };
        let ended = match self.course.first_fault() {
            Some(fault) => Err(fault),
            None => ended,
        };
        (self.sim.elapsed(), ended)
    }

    fn watch(&mut self) -> Result<(), String> {
        let (now, progress) = (self.sim.elapsed(), self.course.progress());
        if self.moved.0 != progress {
            self.moved = (progress, now);
        }
        if now > self.moved.1 + PATIENCE {
            let everybody = self.course.everybody();
            return Err(format!("nothing happened for {PATIENCE:?}: {everybody}"));
        }
        Ok(())
    }

    fn direct(&mut self) {
        match self.course.stage() {
            Stage::Opening if self.course.all_say("host", &["is open"]) => {
                self.course.set_stage(Stage::Stormy);
            }
            Stage::Stormy if !self.storm.blow(&mut self.sim) => {
                self.course.set_stage(Stage::Finishing);
            }
            Stage::Finishing if self.all_produced() => {
                // Those that were lost without a word would be noticed late.
                for host in 1..HOSTS.len() {
                    wire::cut(host);
                }
                self.course.set_stage(Stage::Calm);
            }
            Stage::Ending if self.course.all_say("", &["is done", "waits for a start"]) => {
                let left = self.machine.disk().power_cut();
                self.sim.crash(host::NAME);
                self.machine.set_disk(left);
                self.sim.bounce(host::NAME);
                self.course.says("supervisor", "looks at everything");
                self.course.set_stage(Stage::Looking);
            }
            _ => {}
        }
    }

    fn all_produced(&self) -> bool {
        self.course.all_say("P", &["is done"]) && self.course.all_say("purger", &["is done"])
    }
}

/// All players of a host, from their registration to their end.
async fn clients(course: Course) -> turmoil::Result {
    let name = format!("host {}", course.host);
    course.says(&name, "opens");
    let mut players = JoinSet::new();
    if let Err(error) = open(&course, &mut players).await {
        course.fault(format!("{name}: {error:?}"));
        return Ok(());
    }
    course.says(&name, "is open");
    while let Some(ended) = players.join_next().await {
        ended?;
    }
    course.says(&name, "is done");
    Ok(())
}

/// Lets all players register before any begins: a client survives the loss of a broker, but its
/// first connection needs one.
async fn open(course: &Course, players: &mut JoinSet<()>) -> Result<(), Error> {
    let here = course.host;
    let client = course.connect_at_last("opener").await?;
    create_topics(&client).await?;
    for plan in CONSUMERS.into_iter().filter(|it| it.host == here) {
        for number in 1..=plan.workers {
            let worker = readers::Worker::open(course, plan, number).await?;
            players.spawn_local(worker.run());
        }
    }
    for plan in LEASED.into_iter().filter(|it| it.host == here) {
        for number in 1..=plan.workers {
            let worker = leases::Worker::open(course, plan, number).await?;
            players.spawn_local(worker.run());
        }
    }
    for plan in PRODUCERS.into_iter().filter(|it| it.host == here) {
        let producer = producers::Ready::open(course, plan).await?;
        players.spawn_local(producer.run());
    }
    if here == 1 {
        let follower = readers::Follower::open(course, "follower of A", "A", 1).await?;
        players.spawn_local(follower.run());
        players.spawn_local(readers::purge(client, course.clone()));
    } else {
        let follower = readers::Follower::open(course, "follower of T", TRIMMED, 2).await?;
        players.spawn_local(follower.run());
    }
    Ok(())
}

async fn create_topics(client: &Client) -> Result<(), Error> {
    let keeps = [Setting {
        key: "retention_records".to_owned(),
        value: KEPT.to_owned(),
    }];
    for topic in TOPICS.into_iter().chain([DEAD]) {
        let settings = if topic == TRIMMED { &keeps } else { &[][..] };
        client.create_topic(topic, settings, true).await?;
    }
    Ok(())
}

/// Sees to it that readers follow when nothing fails, and looks at everything in the end.
async fn supervise(course: Course) -> turmoil::Result {
    const NAME: &str = "supervisor";
    course.says(NAME, "waits");
    course.reach(Stage::Calm).await;
    match in_the_calm(&course).await {
        Ok(notes) => course.hand_in(notes),
        Err(fault) => {
            course.fault(format!("{NAME}: {fault}"));
            return Ok(());
        }
    }
    course.says(NAME, "waits for a start");
    course.set_stage(Stage::Ending);
    course.reach(Stage::Looking).await;
    let looked = async {
        let client = course.connect_at_last(NAME).await?;
        readers::look_at_everything(&course, &client).await
    };
    match looked.await {
        Ok(notes) => course.hand_in(notes),
        Err(error) => course.fault(format!("{NAME}: {error:?}")),
    }
    Ok(())
}

async fn in_the_calm(course: &Course) -> Result<Recorder, String> {
    let words = |error: Error| format!("{error:?}");
    let client = course.connect_at_last("last").await.map_err(words)?;
    let options = ProducerOptions::default();
    let mut producer = loop {
        match client.producer(&TOPICS, options.clone()).await {
            // It was full a moment ago.
            Err(error) if error.is_retryable() => sleep(Duration::from_millis(100)).await,
            other => break other.map_err(words)?,
        }
    };
    let mut notes = Recorder::new();
    all_up_to_date(course).await?;
    for round in 0..CALM_ROUNDS {
        // All wait for records now, which one after the other must reach.
        sleep(Duration::from_millis(200)).await;
        producers::produce_the_last(course, &mut producer, &mut notes, round)
            .await
            .map_err(words)?;
        all_up_to_date(course).await?;
    }
    Ok(notes)
}

async fn all_up_to_date(course: &Course) -> Result<(), String> {
    let up_to_date = async {
        while !course.all_have_read() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = timeout(CALM_PATIENCE, up_to_date).await;
    waited.map_err(|_| {
        let everybody = course.everybody();
        format!("nothing fails, and a reader is behind for {CALM_PATIENCE:?}: {everybody}")
    })
}
