//! What all players of a simulation share: the stage, how far each has got, and the notes.
//!
//! Everything runs on one thread, so it is shared without locks; who waits is woken in the order of
//! waiting. Its neighbours: [`run`](super::run) sets the stage, players read it and tell.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use logdrive_client::{Backoff, Client, Error, Options};
use tokio::sync::Notify;

use super::{host, trace, wire};
use crate::history::Recorder;

/// How the simulation stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Players register; nothing fails.
    #[default]
    Opening,
    /// Everything may fail.
    Stormy,
    /// Nothing fails any more; producers come to an end.
    Finishing,
    /// Everything is acknowledged or given up; readers must be up to date.
    Calm,
    /// Readers take what is left and end.
    Ending,
    /// All readers are done; the broker has started again, and everything is looked at.
    Looking,
}

#[derive(Debug, Default)]
struct Shared {
    stage: Cell<Stage>,
    changed: Notify,
    /// Acknowledgements and answers: whether anything happens.
    progress: Cell<u64>,
    acknowledged: Cell<u64>,
    players: RefCell<BTreeMap<String, &'static str>>,
    /// After the last offset that was acknowledged, of each topic.
    ends: RefCell<BTreeMap<&'static str, u64>>,
    /// After the last offset that each reader was given, and its topic.
    read: RefCell<BTreeMap<(&'static str, &'static str), u64>>,
    notes: RefCell<Vec<Recorder>>,
    faults: RefCell<Vec<String>>,
}

/// What every player has; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Course {
    pub(super) seed: u64,
    /// The number of the host that the player is on.
    pub(super) host: usize,
    shared: Rc<Shared>,
}

impl Course {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            host: 0,
            shared: Rc::default(),
        }
    }

    /// The same for the players of a host.
    pub(super) fn on(&self, host: usize) -> Self {
        Self {
            host,
            ..self.clone()
        }
    }

    pub(super) fn stage(&self) -> Stage {
        self.shared.stage.get()
    }

    pub(super) fn set_stage(&self, stage: Stage) {
        trace::note("stage", stage as u64, &[]);
        self.shared.stage.set(stage);
        self.shared.changed.notify_waiters();
    }

    pub(super) fn is_finishing(&self) -> bool {
        self.stage() >= Stage::Finishing
    }

    /// Waits until the simulation has come so far.
    pub(super) async fn reach(&self, stage: Stage) {
        loop {
            let changed = self.shared.changed.notified();
            if self.stage() >= stage {
                return;
            }
            changed.await;
        }
    }

    /// Waits for a while, or until producers come to an end.
    pub(super) async fn pause(&self, millis: u64) {
        tokio::select! {
            biased;
            () = self.reach(Stage::Finishing) => {}
            () = tokio::time::sleep(Duration::from_millis(millis)) => {}
        }
    }

    /// A player says what it does now; the first word is that it is there.
    pub(super) fn says(&self, player: &str, what: &'static str) {
        let mut players = self.shared.players.borrow_mut();
        match players.get_mut(player) {
            Some(said) => *said = what,
            None => drop(players.insert(player.to_owned(), what)),
        }
    }

    /// Whether there are players whose names begin so, and all of them have said one of that.
    pub(super) fn all_say(&self, kind: &str, words: &[&str]) -> bool {
        let players = self.shared.players.borrow();
        let mut of_kind = players.iter().filter(|(name, _)| name.starts_with(kind));
        players.len() > 2 && of_kind.all(|(_, said)| words.contains(said))
    }

    /// What everybody does, for a verdict.
    pub(super) fn everybody(&self) -> String {
        let players = self.shared.players.borrow();
        let said: Vec<_> = players
            .iter()
            .map(|(name, what)| format!("{name} {what}"))
            .collect();
        let ends = self.shared.ends.borrow();
        let read = self.shared.read.borrow();
        format!("{}; acknowledged {ends:?}; read {read:?}", said.join(", "))
    }

    pub(super) fn happened(&self) {
        self.shared.progress.set(self.shared.progress.get() + 1);
    }

    pub(super) fn progress(&self) -> u64 {
        self.shared.progress.get()
    }

    pub(super) fn acknowledged(&self, topic: &'static str, offset: u64) {
        self.happened();
        trace::note("acknowledged", offset, topic.as_bytes());
        self.shared
            .acknowledged
            .set(self.shared.acknowledged.get() + 1);
        let mut ends = self.shared.ends.borrow_mut();
        let end = ends.entry(topic).or_default();
        *end = (*end).max(offset + 1);
    }

    pub(super) fn acknowledgements(&self) -> u64 {
        self.shared.acknowledged.get()
    }

    /// A reader has everything before an offset; 0 that it reads the topic.
    pub(super) fn has_read(&self, reader: &'static str, topic: &'static str, before: u64) {
        self.happened();
        trace::note("read", before, reader.as_bytes());
        let mut read = self.shared.read.borrow_mut();
        let at = read.entry((reader, topic)).or_default();
        *at = (*at).max(before);
    }

    /// Whether every reader has everything that was acknowledged.
    pub(super) fn all_have_read(&self) -> bool {
        let ends = self.shared.ends.borrow();
        let read = self.shared.read.borrow();
        read.iter()
            .all(|((_, topic), before)| ends.get(topic).is_none_or(|end| before >= end))
    }

    pub(super) fn hand_in(&self, notes: Recorder) {
        self.shared.notes.borrow_mut().push(notes);
    }

    pub(super) fn take_notes(&self) -> Vec<Recorder> {
        self.shared.notes.take()
    }

    /// A player has seen what must not be.
    pub(super) fn fault(&self, fault: String) {
        trace::note(&fault, 0, &[]);
        self.shared.faults.borrow_mut().push(fault);
    }

    pub(super) fn first_fault(&self) -> Option<String> {
        self.shared.faults.borrow().first().cloned()
    }

    /// A connection of one player's own. It lives through everything by the client's means alone.
    pub(super) async fn connect(&self, player: &str) -> Result<Client, Error> {
        let options = Options {
            client_name: player.to_owned(),
            connect_timeout: Duration::from_millis(500),
            request_timeout: Duration::from_secs(2),
            retry_for: Duration::from_hours(1),
            backoff: Backoff {
                first: Duration::from_millis(20),
                longest: Duration::from_millis(500),
            },
            connector: Some(wire::connector(self.host, player)),
        };
        let address = format!("{}:{}", host::NAME, host::PORT);
        Client::connect_with(address, options).await
    }

    /// As [`Course::connect`], however often it takes.
    pub(super) async fn connect_at_last(&self, player: &str) -> Result<Client, Error> {
        loop {
            match self.connect(player).await {
                Err(error) if error.is_retryable() => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                other => return other,
            }
        }
    }
}
