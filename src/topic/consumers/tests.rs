//! A consumer as its users see it: requests in, texts out, and the same again after a restart.

use std::collections::BTreeMap;

use super::super::consumer::keys;
use super::super::consumer::parcel::Entry;
use super::super::consumer::taking::Found;
use super::super::consumer::{Plan, Seen};
use super::super::rows::{Decoded, decode};
use super::*;
use crate::storage::Totals;

const TOPIC: TopicId = TopicId(1);
const ID: ConsumerId = ConsumerId(9);
const SECOND: u64 = 1_000_000;

/// A topic of records of ten bytes each, one consumer, and what was stored of it.
struct World {
    consumers: Consumers,
    /// Keys of the topic's records.
    keys: Vec<Option<&'static str>>,
    now: u64,
    ticket: u64,
    stored: BTreeMap<Vec<u8>, Vec<u8>>,
}

fn mark(offset: u64) -> Mark {
    Mark {
        offset,
        totals: Totals {
            records: offset,
            bytes: offset * 10,
        },
    }
}

impl World {
    fn new(settings: &[(&str, &str)], keys: &[&'static str]) -> Self {
        let mut world = Self {
            consumers: Consumers::default(),
            keys: keys
                .iter()
                .map(|key| Some(*key).filter(|it| *it != "-"))
                .collect(),
            now: 1,
            ticket: 0,
            stored: BTreeMap::new(),
        };
        let settings = settings.iter().map(|(key, value)| Setting {
            key: (*key).into(),
            value: (*value).into(),
        });
        let settings = settings.collect();
        let rows = world
            .consumers
            .create(TOPIC, ID, "c1", settings, mark(0), 0)
            .unwrap();
        world.store(rows);
        world
    }

    fn plain(records: usize) -> Self {
        Self::new(&[], &vec!["-"; records])
    }

    fn store(&mut self, rows: Vec<Row>) {
        for row in rows {
            match row.value {
                Some(value) => self.stored.insert(row.key, value),
                None => self.stored.remove(&row.key),
            };
        }
        self.consumers.commit(ID, self.ticket);
    }

    /// Loads everything from what was stored.
    fn restart(&mut self) {
        self.consumers = Consumers::default();
        for (key, value) in &self.stored {
            let consumers = &mut self.consumers;
            match decode(key, value).unwrap() {
                Decoded::Consumer(id, row) => consumers.load(TOPIC, id, row),
                Decoded::Worker(id, worker, row) => consumers.load_worker(id, worker, row),
                Decoded::Fate(id, parcel, row) => consumers.load_fate(id, parcel, row),
                Decoded::Parcel(id, parcel, row) => {
                    consumers.load_parcel(id, parcel, &row).unwrap();
                }
                Decoded::Left(id, parcel, block, set) => {
                    consumers.load_left(id, parcel, block, &set).unwrap();
                }
                Decoded::Gap(id, gap) => consumers.load_gap(id, gap),
                Decoded::Copy(id, offset, row) => consumers.load_copy(id, offset, row),
                other => panic!("{other:?}"),
            }
        }
        self.consumers.begin(self.now, 0, &Arc::default());
    }

    fn end(&self) -> u64 {
        self.keys.len() as u64
    }

    fn found(&self, from: u64, to: u64) -> Vec<Found> {
        let keyed = self.consumers.get(ID).unwrap().config().key_order;
        (from..to)
            .map(|offset| {
                let key = self.keys[usize::try_from(offset).unwrap()];
                let key = key.filter(|_| keyed).map(str::as_bytes);
                Found {
                    entry: Entry {
                        offset,
                        bytes: 10,
                        key: keys::number_of(key),
                        deliveries: 0,
                    },
                    records: 1,
                    wanted: true,
                }
            })
            .collect()
    }

    /// What a consume gives; worker `w` asks with its sequence `s`.
    fn consume(&mut self, w: u64, s: u64, max_records: u32, lease: u64) -> String {
        let taker = Taker {
            consumer: ID,
            worker: WorkerId(w),
            sequence: s,
        };
        loop {
            let consumer = self.consumers.get(ID).unwrap();
            let next = match consumer.turn(taker, self.now) {
                Ok(Turn::Next { next }) => next,
                Ok(Turn::Again {
                    lease: 0, from, to, ..
                }) => return format!("again {from}..{to}"),
                Ok(Turn::Again { lease, .. }) => {
                    return format!("again {}", shown(&consumer.ranges_of_lease(lease)));
                }
                Err(failure) => return failure.code.to_string(),
            };
            let from = match consumer.plan(self.end(), lease > 0, self.now) {
                Plan::Read(from) => from,
                Plan::Copy(offset) => return format!("copy of {offset}"),
                Plan::Tell => next,
                Plan::Held => return "held".to_owned(),
                Plan::Empty => return "empty".to_owned(),
            };
            let to = self.end().max(next);
            let seen = Seen {
                window: from..to,
                content: 0,
                found: Some(self.found(next, to)),
            };
            let wish = Wish {
                max_records,
                lease,
                connection: ConnectionId(w),
            };
            self.ticket += 1;
            let given = self
                .consumers
                .take(taker, wish, &seen, self.now, self.ticket)
                .unwrap();
            let empty = given.is_empty();
            let gaps: Vec<String> = given
                .gaps
                .iter()
                .map(|it| {
                    let Gap {
                        from,
                        to,
                        records,
                        reason,
                        ..
                    } = it;
                    format!("gap {from}..{to} of {records} why {reason} ")
                })
                .collect();
            let text = format!("{}{}", gaps.concat(), shown(&given.ranges));
            self.store(given.rows);
            if !empty {
                return text;
            }
        }
    }

    fn ack(&mut self, worker: u64, lease: u64, from: u64, to: u64) -> String {
        let settled = [Settled { lease, from, to }];
        let worker = WorkerId(worker);
        let checked = self
            .consumers
            .check_settled(ID, worker, &settled, self.end());
        if let Err(failure) = checked {
            return failure.code.to_string();
        }
        self.ticket += 1;
        let (count, rows) = self.consumers.ack(ID, &settled, self.ticket).unwrap();
        self.store(rows);
        count.to_string()
    }

    fn nack(&mut self, worker: u64, lease: u64, from: u64, to: u64, due: u64) -> String {
        let settled = [Settled { lease, from, to }];
        let checked = self
            .consumers
            .check_settled(ID, WorkerId(worker), &settled, self.end());
        if let Err(failure) = checked {
            return failure.code.to_string();
        }
        self.ticket += 1;
        let due = Some(due).filter(|due| *due > 0);
        let nacked = self
            .consumers
            .nack(ID, &settled, due, self.now, self.ticket);
        let (count, rows) = nacked.unwrap();
        self.store(rows);
        count.to_string()
    }

    fn pass(&mut self, time: u64) {
        self.now += time;
        for (id, mut rows) in self.consumers.expire(self.now) {
            if !rows.is_empty() {
                self.ticket += 1;
                self.consumers.staged(id, self.ticket, &mut rows);
                self.store(rows);
            }
        }
    }

    /// Records left, of which leased, and the cursor.
    fn size(&self) -> String {
        let consumer = self.consumers.get(ID).unwrap();
        let standing = consumer.committed();
        let left = self.end() - standing.next.totals.records + standing.left.records;
        let bytes = self.end() * 10 - standing.next.totals.bytes + standing.left.bytes;
        assert_eq!(bytes, left * 10, "bytes are exact");
        let leased = consumer.outstanding.leased();
        format!("{left} left, {leased} leased, cursor {}", consumer.cursor())
    }

    fn check_size(&mut self, expected: &str) {
        assert_eq!(self.size(), expected);
        let mut again = Self {
            consumers: Consumers::default(),
            keys: self.keys.clone(),
            stored: self.stored.clone(),
            ..*self
        };
        again.restart();
        let without_leases = |text: String| {
            let parts: Vec<_> = text.split(", ").map(str::to_owned).collect();
            format!("{}, {}", parts[0], parts[2])
        };
        assert_eq!(
            without_leases(again.size()),
            without_leases(self.size()),
            "after a restart"
        );
    }
}

fn shown(ranges: &[logdrive_protocol::operations::Range]) -> String {
    let shown: Vec<_> = ranges
        .iter()
        .map(|it| format!("{}..{}*{} in {}", it.from, it.to, it.deliveries, it.lease))
        .collect();
    shown.join(", ")
}

#[test]
fn records_are_leased_to_one_worker_until_they_are_acked_or_the_time_is_over() {
    let mut world = World::plain(10);
    assert_eq!(world.consume(1, 1, 4, SECOND), "0..4*0 in 1");
    assert_eq!(world.consume(2, 1, 4, 2 * SECOND), "4..8*0 in 2");
    assert_eq!(world.consume(1, 1, 4, SECOND), "again 0..4*0 in 1");
    world.check_size("10 left, 8 leased, cursor 0");
    assert_eq!(world.ack(1, 1, 0, 3), "3");
    assert_eq!(world.ack(1, 1, 0, 3), "0", "a retry");
    assert_eq!(world.ack(2, 2, 5, 6), "1");
    world.check_size("6 left, 4 leased, cursor 3");
    world.pass(SECOND);
    assert_eq!(world.ack(1, 1, 3, 4), "LEASE_LOST");
    assert_eq!(world.consume(2, 2, 10, SECOND), "3..4*1 in 3, 8..10*0 in 3");
    assert_eq!(world.consume(3, 1, 0, SECOND), "held");
    assert_eq!(world.ack(2, 3, 0, 10), "3");
    assert_eq!(world.ack(2, 2, 0, 10), "3");
    world.check_size("0 left, 0 leased, cursor 10");
    assert_eq!(world.consume(3, 1, 0, SECOND), "empty");
}

#[test]
fn acks_of_what_is_not_leased_have_errors_of_their_own() {
    let mut world = World::plain(10);
    world.consume(1, 1, 4, SECOND);
    assert_eq!(world.ack(1, 1, 0, 11), "OFFSET_OUT_OF_RANGE");
    assert_eq!(world.ack(1, 1, 3, 3), "OFFSET_OUT_OF_RANGE");
    assert_eq!(world.ack(1, 1, 5, 6), "NOT_LEASED");
    assert_eq!(world.ack(1, 7, 5, 6), "NOT_LEASED");
    assert_eq!(world.ack(2, 1, 0, 1), "NOT_LEASED", "another worker's");
    assert_eq!(world.ack(1, 7, 0, 1), "NOT_LEASED", "there never was one");
    world
        .consumers
        .create(TOPIC, ConsumerId(10), "c2", vec![], mark(0), 0)
        .unwrap();
    let settled = [Settled {
        lease: 1,
        from: 0,
        to: 1,
    }];
    let wrong = world
        .consumers
        .check_settled(ConsumerId(10), WorkerId(1), &settled, 10)
        .unwrap_err();
    assert_eq!((wrong.code, wrong.first), (ErrorCode::WrongConsumer, ID.0));
    world.check_size("10 left, 4 leased, cursor 0");
}

#[test]
fn what_is_given_back_comes_again_with_its_count_when_it_is_due() {
    let mut world = World::plain(6);
    world.consume(1, 1, 6, 10 * SECOND);
    assert_eq!(world.nack(1, 1, 1, 2, 0), "1");
    assert_eq!(world.nack(1, 1, 3, 5, 5 * SECOND), "2");
    assert_eq!(world.nack(1, 1, 3, 5, 0), "NOT_LEASED");
    world.check_size("6 left, 3 leased, cursor 0");
    assert_eq!(world.consume(2, 1, 0, SECOND), "1..2*1 in 4");
    assert_eq!(world.consume(2, 2, 0, SECOND), "held");
    world.restart();
    world.pass(5 * SECOND);
    assert_eq!(world.consume(2, 2, 0, SECOND), "1..2*2 in 5, 3..5*1 in 5");
}

#[test]
fn leases_run_anew_after_a_restart_and_belong_to_their_worker() {
    let mut world = World::plain(6);
    world.consume(1, 1, 4, 10 * SECOND);
    world.pass(9 * SECOND);
    assert_eq!(world.ack(1, 1, 1, 2), "1");
    world.restart();
    world.pass(9 * SECOND);
    assert_eq!(world.consume(2, 1, 0, SECOND), "4..6*0 in 2");
    assert_eq!(
        world.consume(1, 1, 4, SECOND),
        "again 0..1*0 in 1, 2..4*0 in 1"
    );
    assert_eq!(world.ack(1, 1, 0, 1), "1");
    world.pass(SECOND);
    assert_eq!(world.consume(2, 2, 0, SECOND), "2..6*1 in 3");
}

#[test]
fn a_worker_whose_connection_is_gone_keeps_what_it_reclaims() {
    let mut world = World::plain(4);
    world.consume(1, 1, 2, 60 * SECOND);
    world.consume(2, 1, 2, 60 * SECOND);
    for worker in [1, 2] {
        world
            .consumers
            .leave(ConnectionId(worker), world.now + 5 * SECOND);
    }
    world.pass(4 * SECOND);
    world.consumers.heard(ID, WorkerId(1), 1, ConnectionId(7));
    world.pass(2 * SECOND);
    assert_eq!(
        world.consume(3, 1, 0, SECOND),
        "2..4*0 in 3",
        "no delivery is counted"
    );
    assert_eq!(world.ack(2, 2, 2, 3), "LEASE_LOST");
    assert_eq!(world.ack(1, 1, 0, 2), "2");
}

#[test]
fn records_that_are_delivered_too_often_are_doomed() {
    let settings = [
        ("max_deliveries", "2"),
        ("dead_letter_topic", "dead"),
        ("backoff", "3s"),
    ];
    let mut world = World::new(&settings, &["-"; 2]);
    world.consume(1, 1, 1, SECOND);
    world.consume(1, 2, 1, SECOND);
    world.pass(SECOND);
    assert_eq!(world.consume(1, 3, 0, SECOND), "held", "the back-off");
    world.pass(3 * SECOND);
    assert_eq!(world.consume(1, 3, 0, SECOND), "0..2*1 in 3");
    assert_eq!(world.nack(1, 3, 0, 1, 0), "1");
    world.pass(SECOND);
    assert_eq!(world.consume(1, 4, 0, SECOND), "held");
    for _ in 0..2 {
        let consumer = world.consumers.get(ID).unwrap();
        let doomed: u64 = consumer
            .outstanding
            .doomed(world.now + 3 * SECOND)
            .map(|(_, parcel)| parcel.totals().records)
            .sum();
        assert_eq!(doomed, 2);
        world.check_size("2 left, 0 leased, cursor 0");
        world.restart();
    }
}

#[test]
fn records_of_one_key_go_to_one_worker_at_a_time_in_order() {
    let mut world = World::new(&[("order", "key")], &["a", "b", "a", "-", "b", "c"]);
    assert_eq!(world.consume(1, 1, 1, SECOND), "0..1*0 in 1");
    assert_eq!(
        world.consume(2, 1, 0, 9 * SECOND),
        "1..2*0 in 3, 3..6*0 in 3",
        "a busy key holds back itself alone"
    );
    assert_eq!(world.consume(3, 1, 0, SECOND), "held");
    world.check_size("6 left, 5 leased, cursor 0");
    world.restart();
    assert_eq!(world.consume(3, 1, 0, SECOND), "held");
    assert_eq!(world.nack(2, 3, 1, 2, 0), "1");
    assert_eq!(
        world.consume(3, 1, 0, SECOND),
        "held",
        "4 is of the same key"
    );
    world.pass(SECOND);
    assert_eq!(world.consume(3, 1, 0, SECOND), "0..1*1 in 5, 2..3*0 in 5");
    assert_eq!(world.ack(2, 3, 4, 5), "1");
    assert_eq!(world.consume(4, 1, 0, SECOND), "1..2*1 in 6");
    assert_eq!(world.ack(3, 5, 0, 6), "2");
    assert_eq!(world.ack(4, 6, 0, 6), "1");
    assert_eq!(world.ack(2, 3, 0, 6), "2");
    world.check_size("0 left, 0 leased, cursor 6");
}

#[test]
fn no_more_is_leased_than_the_consumer_may_have() {
    let mut world = World::new(&[("max_leased", "3")], &["-"; 9]);
    assert_eq!(world.consume(1, 1, 2, SECOND), "0..2*0 in 1");
    assert_eq!(world.consume(1, 2, 0, SECOND), "2..3*0 in 2");
    assert_eq!(world.consume(1, 3, 0, SECOND), "held");
    world.ack(1, 1, 1, 2);
    assert_eq!(world.consume(1, 3, 0, SECOND), "3..4*0 in 3");
    world.pass(SECOND);
    assert_eq!(world.consume(1, 4, 0, SECOND), "0..1*1 in 4, 2..4*1 in 4");
}

#[test]
fn what_is_taken_for_good_fills_in_what_was_given_back_first() {
    let mut world = World::plain(6);
    world.consume(1, 1, 3, SECOND);
    world.ack(1, 1, 1, 2);
    world.pass(SECOND);
    assert_eq!(world.consume(2, 1, 0, 0), "0..1*1 in 0");
    assert_eq!(world.consume(2, 1, 0, 0), "again 0..1");
    assert_eq!(world.consume(2, 2, 0, 0), "2..3*1 in 0");
    assert_eq!(world.consume(2, 3, 2, 0), "3..5*0 in 0");
    world.check_size("1 left, 0 leased, cursor 5");
}

#[test]
fn what_is_removed_unread_is_told_once_and_what_is_leased_is_not_lost() {
    let mut world = World::plain(20);
    world.consume(1, 1, 2, 60 * SECOND);
    world.consume(2, 1, 2, SECOND);
    world.pass(SECOND);
    let purged = Gap {
        from: 0,
        to: 10,
        reason: Gap::PURGE,
        ..Gap::default()
    };
    let removed = Arc::new(Removed::load(vec![purged.clone()]));
    world.ticket += 1;
    let (_, rows) = world
        .consumers
        .trim(mark(10), &purged, &removed, world.ticket);
    world.store(rows);
    world.check_size("12 left, 2 leased, cursor 0");
    world.restart();
    world.consumers.begin(world.now, 10, &removed);
    assert_eq!(
        world.consume(2, 2, 1, SECOND),
        "gap 2..4 of 2 why 1 gap 4..10 of 6 why 1 10..11*0 in 3",
    );
    assert_eq!(world.consume(2, 3, 1, SECOND), "11..12*0 in 4", "told once");
    assert_eq!(world.ack(1, 1, 0, 1), "1", "a lease outlives its records");
    assert_eq!(world.nack(1, 1, 1, 2, 0), "1");
    assert_eq!(
        world.consume(2, 4, 1, SECOND),
        "gap 1..2 of 1 why 1 12..13*0 in 6"
    );
}

#[test]
fn a_paused_consumer_gives_nothing() {
    let mut world = World::plain(2);
    let config = ConsumerConfig::default();
    world
        .consumers
        .alter(ID, vec![], config.clone(), true)
        .unwrap();
    assert_eq!(world.consume(1, 1, 0, 0), "held");
    world.consumers.alter(ID, vec![], config, false).unwrap();
    assert_eq!(world.consume(1, 1, 0, 0), "0..2*0 in 0");
}

#[test]
fn a_name_stands_for_one_configuration() {
    let mut consumers = World::plain(0).consumers;
    let settings = vec![Setting {
        key: "description".into(),
        value: "x".into(),
    }];
    let other = ConsumerId(10);
    consumers
        .create(TOPIC, other, "c2", settings.clone(), mark(0), 0)
        .unwrap();
    assert_eq!(consumers.find("c2", &[]), Ok(Some(other)));
    assert_eq!(consumers.find("c2", &settings), Ok(Some(other)));
    assert_eq!(consumers.find("c3", &settings), Ok(None));
    let failure = consumers.find("c1", &settings).unwrap_err();
    assert_eq!(failure.code, ErrorCode::ConsumerExists);
}

#[test]
fn a_gap_is_told_again_with_the_answer_that_told_it_also_when_its_lease_is_over() {
    let mut world = World::plain(20);
    world.ticket += 1;
    let (_, rows) = world
        .consumers
        .trim(mark(5), &Gap::default(), &Arc::default(), world.ticket);
    world.store(rows);
    assert_eq!(
        world.consume(1, 1, 2, SECOND),
        "gap 0..5 of 5 why 0 5..7*0 in 1"
    );
    world.pass(SECOND);
    assert_eq!(world.consume(2, 1, 2, SECOND), "5..7*1 in 2");
    world.restart();
    assert_eq!(
        world.consume(1, 1, 2, SECOND),
        "again ",
        "nothing is left of it"
    );
    let taker = Taker {
        consumer: ID,
        worker: WorkerId(1),
        sequence: 1,
    };
    let told = world.consumers.get(ID).unwrap().gaps_told(taker, world.now);
    assert_eq!((told.len(), told[0].records), (1, 5));
    assert_eq!(world.consume(1, 2, 1, SECOND), "7..8*0 in 3");
}

#[test]
fn an_ack_up_to_an_offset_that_is_repeated_is_a_success() {
    let mut world = World::plain(20);
    world.consume(1, 1, 10, 60 * SECOND);
    world.consume(2, 1, 10, 60 * SECOND);
    assert_eq!(world.ack(2, 2, 0, 20), "10");
    assert_eq!(world.ack(2, 2, 0, 20), "0");
    assert_eq!(world.ack(1, 1, 0, 5), "5");
    assert_eq!(world.ack(1, 1, 0, 5), "0");
    world.check_size("5 left, 5 leased, cursor 5");
}

#[test]
fn a_nack_without_a_delay_waits_for_the_back_off() {
    let mut world = World::new(&[("backoff", "2s,5s")], &["-"; 2]);
    world.consume(1, 1, 1, SECOND);
    world.pass(SECOND);
    world.pass(2 * SECOND);
    assert_eq!(
        world.consume(1, 2, 2, 60 * SECOND),
        "0..1*1 in 2, 1..2*0 in 2"
    );
    assert_eq!(world.nack(1, 2, 0, 2, 0), "2");
    assert_eq!(world.consume(1, 3, 2, SECOND), "held");
    world.restart();
    world.pass(2 * SECOND);
    assert_eq!(world.consume(1, 3, 2, SECOND), "1..2*1 in 5");
    world.pass(3 * SECOND);
    assert_eq!(world.consume(1, 4, 2, SECOND), "0..1*2 in 6");
}

#[test]
fn what_was_set_aside_is_given_only_as_far_as_there_is_room() {
    let mut world = World::new(&[("order", "key"), ("max_leased", "2")], &["a"; 9]);
    assert_eq!(world.consume(1, 1, 1, SECOND), "0..1*0 in 1");
    assert_eq!(
        world.consume(2, 1, 0, SECOND),
        "held",
        "all others are set aside"
    );
    assert_eq!(world.ack(1, 1, 0, 1), "1");
    assert_eq!(world.consume(1, 2, 0, 60 * SECOND), "1..3*0 in 3");
    world.restart();
    assert_eq!(world.consume(2, 1, 0, SECOND), "held");
    assert_eq!(world.ack(1, 3, 0, 3), "2");
    assert_eq!(world.consume(2, 1, 1, SECOND), "3..4*0 in 4");
}

#[test]
fn the_rest_of_a_lease_that_is_over_stays_free_after_a_restart() {
    let mut world = World::new(&[("order", "key")], &["a"; 3]);
    assert_eq!(world.consume(1, 1, 3, SECOND), "0..3*0 in 1");
    world.pass(SECOND);
    assert_eq!(world.consume(2, 1, 1, 60 * SECOND), "0..1*1 in 3");
    world.restart();
    assert_eq!(world.ack(1, 1, 1, 2), "LEASE_LOST");
    assert_eq!(world.consume(3, 1, 0, SECOND), "held", "the key is busy");
    assert_eq!(world.ack(2, 3, 0, 1), "1");
    assert_eq!(world.consume(3, 1, 0, SECOND), "1..3*1 in 4");
}
