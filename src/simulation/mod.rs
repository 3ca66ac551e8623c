//! Broker, clients and checker in one process, on a simulated network, disk and clock.

mod host;
mod trace;
mod wire;

use std::time::{Duration, Instant};

use logdrive_client::{Client, ConsumerOptions, Options, ProducerOptions};

fn first(seed: u64) -> (u64, u64) {
    fastrand::seed(seed);
    trace::begin(false);
    wire::begin();
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .tick_duration(Duration::from_millis(2))
        .simulation_duration(Duration::from_secs(60))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(20))
        .build();
    let machine = host::Machine::new(seed);
    let broker = machine.clone();
    sim.host(host::NAME, move || broker.clone().serve());
    sim.client("one", async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let options = Options {
            connector: Some(wire::connector(1)),
            ..Options::default()
        };
        let client = Client::connect_with("broker:7440", options).await?;
        client.create_topic("T", &[], true).await?;
        let mut producer = client.producer(&["T"], ProducerOptions::default()).await?;
        for number in 0..20 {
            producer.send("T", format!("{number}")).await?;
        }
        let mut consumer = client
            .consumer("C", &["T"], ConsumerOptions::default())
            .await?;
        let mut count = 0;
        while count < 20 {
            count += consumer.get_batch(None).await?.unwrap().record_count();
        }
        Ok(())
    });
    let began = Instant::now();
    while !sim.step().unwrap() {
        trace::set_now(sim.elapsed());
    }
    println!(
        "{seed}: {:?} simulated in {:?}",
        sim.elapsed(),
        began.elapsed()
    );
    trace::digest()
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..5 {
        assert_eq!(first(seed), first(seed));
    }
}
