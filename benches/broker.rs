//! The figures that a user feels, each beside what this machine's disk does in the same run.
//!
//! `cargo bench --bench broker` starts a real broker on a temporary directory (in the current one,
//! so that it lies on the disk that counts) and prints: one durable 100-byte record at a time
//! against 4 KiB append + fdatasync, in alternating rounds; the pipelined rate of 1 KiB records
//! against appending 1 MiB + fdatasync; the broker's resident memory.
#![allow(
    clippy::unwrap_used,
    reason = "a bench that cannot measure should stop"
)]

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use logdrive_client::{Client, NewRecord, Producer, ProducerOptions};

/// Rounds of the disk and of the broker, in turn, so that both meet the same neighbours.
const ROUNDS: usize = 10;
/// Records or writes in a round.
const PER_ROUND: usize = 300;
/// Bytes that the pipelined run produces, and the disk appends.
const PIPELINED_BYTES: usize = 512 << 20;

/// A broker in a process of its own, ended with this value.
struct Broker {
    child: Child,
    address: String,
}

impl Broker {
    fn start(data: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_logdrive"))
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines
            .by_ref()
            .map(Result::unwrap)
            .find_map(|line| Some(line.strip_prefix("logdrive listening on ")?.to_owned()))
            .unwrap();
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    fn resident_kib(&self) -> String {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.unwrap_or("not known here").trim().to_owned()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn percentile(sorted: &[Duration], share: f64) -> Duration {
    // The benches' sample counts are far below what an f64 counts exactly.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )]
    let index = ((sorted.len() - 1) as f64 * share) as usize;
    sorted[index]
}

fn append(file: &mut File, bytes: &[u8]) {
    file.write_all(bytes).unwrap();
    file.sync_data().unwrap();
}

fn timed(samples: &mut Vec<Duration>, work: impl FnOnce()) {
    let begun = Instant::now();
    work();
    samples.push(begun.elapsed());
}

async fn one_at_a_time(producer: &mut Producer, directory: &Path) {
    let mut file = File::create(directory.join("append")).unwrap();
    let (block, record) = (vec![7_u8; 4096], vec![b'x'; 100]);
    let (mut disk, mut broker) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for _ in 0..PER_ROUND {
            timed(&mut disk, || append(&mut file, &block));
        }
        for _ in 0..PER_ROUND {
            let begun = Instant::now();
            producer.send("latency", record.clone()).await.unwrap();
            broker.push(begun.elapsed());
        }
    }
    disk.sort();
    broker.sort();
    println!(
        "one durable 100-byte record at a time, {} of them",
        broker.len()
    );
    for share in [0.5, 0.99] {
        let (raw, ours) = (percentile(&disk, share), percentile(&broker, share));
        println!(
            "  p{:.0}: {ours:?}; 4 KiB append + fdatasync {raw:?}; ratio {:.2}",
            share * 100.0,
            ours.as_secs_f64() / raw.as_secs_f64()
        );
    }
}

async fn pipelined(producer: &mut Producer, directory: &Path) {
    let block = vec![7_u8; 1 << 20];
    let mut file = File::create(directory.join("append")).unwrap();
    let begun = Instant::now();
    for _ in 0..PIPELINED_BYTES / block.len() {
        append(&mut file, &block);
    }
    let disk = begun.elapsed().as_secs_f64();
    drop(file);
    std::fs::remove_file(directory.join("append")).unwrap();
    let value = vec![b'x'; 1024];
    let record = NewRecord {
        value: &value,
        ..NewRecord::default()
    };
    let count = u32::try_from(PIPELINED_BYTES / value.len()).unwrap();
    let begun = Instant::now();
    for _ in 0..count {
        producer.push("pipelined", &record).await.unwrap();
    }
    producer.flush().await.unwrap();
    let ours = begun.elapsed().as_secs_f64();
    let mib = f64::from(count) / 1024.0;
    println!("durable produce, 1 KiB records, pipelined, {mib:.0} MiB");
    println!(
        "  {:.0} records/s, {:.0} MiB/s; 1 MiB append + fdatasync {:.0} MiB/s; ratio {:.2}",
        f64::from(count) / ours,
        mib / ours,
        mib / disk,
        disk / ours
    );
}

#[tokio::main]
async fn main() {
    let directory = tempfile::tempdir_in(".").unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    println!("resident at start: {}", broker.resident_kib());
    let client = Client::connect(broker.address.as_str()).await.unwrap();
    let topics = ["latency", "pipelined"];
    let mut producer = client
        .producer(&topics, ProducerOptions::default())
        .await
        .unwrap();
    one_at_a_time(&mut producer, directory.path()).await;
    pipelined(&mut producer, directory.path()).await;
    producer.close().await.unwrap();
    println!("resident after that: {}", broker.resident_kib());
}
