//! The client's sender against a broker that goes away under it: what is sent together is in all of
//! its topics, once, and what is sent for later comes once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(
    dead_code,
    reason = "shared with the trial that stops and looks at it as well"
)]
#[path = "kill/broker.rs"]
mod broker;

use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use broker::Broker;
use logdrive_client::blocking::Client;
use logdrive_client::{
    ErrorCode, FetchOptions, NewRecord, Options, Position, ProducerOptions, blocking,
};

/// How long a broker may take to start.
const PATIENCE: Duration = Duration::from_mins(2);
/// Kills under the sender.
const KILLS: usize = 4;
/// Requests answered between two kills.
const BETWEEN: usize = 10;

fn connect(broker: &Broker) -> Client {
    let options = Options {
        retry_for: PATIENCE,
        ..Options::default()
    };
    Client::connect_with(broker.address, options).unwrap()
}

fn record(value: &str) -> NewRecord<'_> {
    NewRecord {
        value: value.as_bytes(),
        ..NewRecord::default()
    }
}

fn stored(client: &Client, topic: &str) -> Vec<String> {
    let portions = client.fetch(topic, Position::Earliest, FetchOptions::default());
    let mut values = Vec::new();
    for portion in portions.unwrap() {
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
        values.extend(portion.unwrap().records().map(|it| text(it.record.value)));
    }
    values
}

/// Sends until it is told to stop; how many requests were answered.
fn send(
    mut sender: blocking::Sender,
    answered: &mpsc::Sender<()>,
    stop: &mpsc::Receiver<()>,
) -> usize {
    let mut count = 0;
    while stop.try_recv() == Err(mpsc::TryRecvError::Empty) {
        let (first, second) = (format!("{count} first"), format!("{count} second"));
        let records = [
            ("b", record(&first)),
            ("a", record(&first)),
            ("b", record(&second)),
        ];
        let receipts = sender.send_all(&records).unwrap();
        let places: Vec<(&str, u64)> = receipts.iter().map(|it| (&*it.topic, it.offset)).collect();
        let at = count as u64;
        assert_eq!(places, [("b", 2 * at), ("a", at), ("b", 2 * at + 1)]);
        count += 1;
        // The test may have seen enough.
        let _ = answered.send(());
    }
    sender.close();
    count
}

#[test]
fn what_is_sent_together_is_in_all_topics_once_however_often_the_broker_is_killed() {
    let mut broker = Broker::start();
    let client = connect(&broker);
    let sender = client.sender(&["a", "b"], ProducerOptions::default());
    let sender = sender.unwrap();
    let (answered, answers) = mpsc::channel();
    let (stop, stopped) = mpsc::channel();
    let sending = std::thread::spawn(move || send(sender, &answered, &stopped));
    for round in 0..KILLS {
        for _ in 0..BETWEEN {
            answers.recv().unwrap();
        }
        if round % 2 == 0 {
            broker.kill();
        } else {
            broker.stop();
        }
        broker.start_again();
        // Those of before say nothing of the new one.
        while answers.try_recv().is_ok() {}
    }
    stop.send(()).unwrap();
    let count = sending.join().unwrap();
    let firsts: Vec<String> = (0..count).map(|it| format!("{it} first")).collect();
    assert_eq!(stored(&client, "a"), firsts);
    let both = (0..count).flat_map(|it| [format!("{it} first"), format!("{it} second")]);
    assert_eq!(stored(&client, "b"), both.collect::<Vec<_>>());
}

#[test]
fn what_is_sent_for_later_comes_when_its_time_has_come() {
    let broker = Broker::start();
    let client = connect(&broker);
    let mut sender = client.sender(&["app"], ProducerOptions::default()).unwrap();
    let past = SystemTime::now() - Duration::from_secs(5);
    let refused = sender.schedule("app", &[record("x")], past).unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::InvalidDelay));
    let soon = SystemTime::now() + Duration::from_secs(1);
    let records = [record("one"), record("two")];
    sender.schedule("app", &records, soon).unwrap();
    let receipts = sender.send_all(&[("app", record("now"))]).unwrap();
    assert_eq!(receipts.len(), 1);
    let options = FetchOptions {
        end: logdrive_client::End::Follow,
        max_records: 3,
        ..FetchOptions::default()
    };
    let mut values = Vec::new();
    for portion in client.fetch("app", Position::Earliest, options).unwrap() {
        let portion = portion.unwrap();
        values.extend(portion.records().map(|it| it.record.value.len()));
    }
    assert_eq!(values.len(), 3);
    let mut all = stored(&client, "app");
    all.sort();
    assert_eq!(all, ["now", "one", "two"]);
}
