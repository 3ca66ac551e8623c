//! `bench many`: many producers with one record in flight each, beside a single one.
//!
//! Owns the figures. What shares an fsync is seen here: the single producer waits for one after each
//! record, and many could wait for the same. The single one is measured before and after.

use std::sync::Arc;

use super::args::{Connections, ManyArgs, Mode};
use super::course::per_second;
use super::figure::{Figure, Limit, Unit};
use super::ground::Ground;
use super::payload::Payload;
use super::produce::measured;
use super::producing::Load;
use super::volume::Volume;

/// Measures the single producer and the many.
pub(super) async fn run(ground: &Ground, arguments: &ManyArgs) -> anyhow::Result<Vec<Figure>> {
    let target = ground.broker().await?;
    let size = Volume(arguments.size.into());
    let payload = Arc::new(Payload::generated(size, arguments.records)?);
    let count = arguments.producers;
    let load = |producers, connections, records| Load {
        producers,
        connections,
        mode: Mode::OneByOne,
        ..Load::plain(payload.clone(), records, target.topic("many"))
    };
    let single = || load(1, Connections::Each, arguments.single.into());
    let (before, _) = measured(&target, single(), "one in flight").await?;
    let mut many = Vec::new();
    for (connections, which) in [
        (Connections::Each, "own connections"),
        (Connections::Shared, "one connection"),
    ] {
        let load = load(count as usize, connections, arguments.records);
        many.push((measured(&target, load, "one in flight each").await?, which));
    }
    let (after, costs) = measured(&target, single(), "one in flight").await?;
    target.end().await?;

    let [before, after] = [before, after].map(|it| per_second(it.records, it.took));
    let rate = f64::midpoint(before, after);
    let name = format!("one producer, one record of {size} in flight");
    let mut figures = vec![Figure::new(name, rate, Unit::RecordsPerSecond).costing(costs)];
    for ((produced, costs), which) in many {
        let name = format!("{count} producers, one record of {size} in flight each, {which}");
        let rate = per_second(produced.records, produced.took);
        let limit = Limit::around("a single producer", before, after);
        let figure = Figure::new(&name, rate, Unit::RecordsPerSecond).beside(limit);
        let figure = figure.parameter("records", produced.records);
        let latencies = produced.latencies.series(&*name);
        let p99 = produced.latencies.percentile(99.0);
        figures.push(figure.costing(costs).with_series(latencies));
        figures.push(Figure::seconds(format!("{name}, p99"), p99));
    }
    Ok(figures)
}
