//! The machine's clock steps by an hour and by a day, both ways: nothing is lost, nothing expires
//! early, nothing is given early.
//!
//! One broker and one client, without any other fault, in simulated time. What is to happen at its
//! time happens then as well: a lease ends, a record falls due.

use std::time::{Duration, UNIX_EPOCH};

use logdrive_client::{
    Client, Consumer, ConsumerOptions, Event, FetchOptions, Options, Position, ProducerOptions,
};
use logdrive_protocol::batch::NewRecord;
use logdrive_protocol::operations::Setting;
use tokio::time::sleep;

use super::host::{self, Machine};
use super::{trace, wire};

/// How long leases last.
const LEASE: Duration = Duration::from_mins(1);
/// When the scheduled record falls due.
const DELAY: Duration = Duration::from_mins(3);
/// Longer than the housekeeping of topics takes to come round.
const A_WHILE: Duration = Duration::from_secs(40);
/// Records that are there before the step.
const RECORDS: usize = 10;

/// The clock steps by so many seconds.
fn check(step: i64) {
    fastrand::seed(7);
    trace::begin(false);
    wire::begin();
    host::set_slowest_write(2);
    let mut sim = turmoil::Builder::new()
        .rng_seed(7)
        .tick_duration(Duration::from_millis(10))
        .simulation_duration(Duration::from_hours(1))
        .build();
    let machine = Machine::new(7);
    sim.host(host::NAME, move || machine.clone().serve());
    sim.client("one", scenario(step));
    sim.run().unwrap();
}

async fn scenario(step: i64) -> turmoil::Result {
    let options = Options {
        connector: Some(wire::connector(1, "clock")),
        ..Options::default()
    };
    let address = format!("{}:{}", host::NAME, host::PORT);
    let client = Client::connect_with(address, options).await?;
    let retention = Setting {
        key: "retention_age".to_owned(),
        value: "30m".to_owned(),
    };
    client.create_topic("app", &[retention], true).await?;
    let producing = ProducerOptions {
        name: Some("steady".to_owned()),
        ..ProducerOptions::default()
    };
    let mut producer = client.producer(&["app"], producing).await?;
    let mut last = 0;
    for number in 0..RECORDS {
        last = producer.send("app", number.to_string()).await?.append_time;
    }
    let mut one = consumer(&client, 3).await?;
    assert_eq!(taken(&mut one).await?, ["0 x0", "1 x0", "2 x0"]);
    let due = UNIX_EPOCH + Duration::from_micros(client.ping().await?.now) + DELAY;
    let mut sender = client.sender(&["app"], ProducerOptions::default()).await?;
    let later = NewRecord {
        value: b"later",
        ..NewRecord::default()
    };
    sender.schedule("app", &[later], due).await?;

    trace::step_wall(step);
    sleep(A_WHILE).await;

    // No lease is over, nothing is due, nothing has expired, and the producer is still known.
    let mut other = consumer(&client, 0).await?;
    let rest = ["3 x0", "4 x0", "5 x0", "6 x0", "7 x0", "8 x0", "9 x0"];
    assert_eq!(taken(&mut other).await?, rest);
    assert_eq!(taken(&mut other).await?, [""; 0]);
    assert_eq!(read(&client).await?, RECORDS);
    let now = producer.send("app", "10").await?.append_time;
    let passed = Duration::from_micros(now.checked_sub(last).expect("time ran back"));
    assert!(passed.abs_diff(A_WHILE) <= A_WHILE / 20, "{passed:?}");

    // What has its time comes when it has.
    sleep(LEASE.saturating_sub(A_WHILE) + LEASE / 50).await;
    assert_eq!(taken(&mut other).await?, ["0 x1", "1 x1", "2 x1", "10 x0"]);
    assert_eq!(read(&client).await?, RECORDS + 1);
    sleep(DELAY + DELAY / 50).await;
    assert_eq!(read(&client).await?, RECORDS + 2);
    Ok(())
}

async fn consumer(client: &Client, max_records: u32) -> turmoil::Result<Consumer> {
    let options = ConsumerOptions {
        lease: Some(LEASE),
        max_records,
        ..ConsumerOptions::default()
    };
    Ok(client.consumer("workers", &["app"], options).await?)
}

/// What there is at once: each record's value, and how often it was delivered before.
async fn taken(consumer: &mut Consumer) -> turmoil::Result<Vec<String>> {
    let mut taken = Vec::new();
    if let Some(portion) = consumer.get_batch(Some(Duration::ZERO)).await? {
        for event in portion.events() {
            if let Event::Record(record) = event {
                let value = String::from_utf8_lossy(&record.value).into_owned();
                taken.push(format!("{value} x{}", record.deliveries));
            }
        }
    }
    Ok(taken)
}

/// How many records are there, from the first one on.
async fn read(client: &Client) -> turmoil::Result<usize> {
    let mut fetcher = client
        .fetch("app", Position::Earliest, FetchOptions::default())
        .await?;
    let (mut count, mut next) = (0, 0);
    while let Some(portion) = fetcher.next().await? {
        for record in portion.records() {
            assert_eq!(record.offset, next, "something is missing");
            (count, next) = (count + 1, next + 1);
        }
    }
    Ok(count)
}

#[test]
fn a_step_of_the_clock_loses_nothing_and_gives_nothing_early() {
    for hours in [1, 24, -1, -24] {
        check(hours * 3_600);
    }
}
