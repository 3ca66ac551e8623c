//! `logdrive ping`: is the broker there, what can it do, and what has it counted.

use std::io::stdout;
use std::time::{Duration, Instant};

use logdrive_client::{Counter, ErrorCode, Greeted, Pinged};

use super::args::Common;
use super::connect;
use super::exit::{Exit, Fault};
use super::output::{Format, Row, print_one};

/// Runs the command; the broker's state decides the exit code.
pub(crate) async fn run(common: &Common) -> Result<Exit, Fault> {
    let client = connect(common).await?;
    let greeted = client.hello().await?;
    let asked = Instant::now();
    let pinged = client.ping().await?;
    let latency = asked.elapsed();
    let counters = match client.stats(None).await {
        // Who may not see them still learns that the broker is there.
        Err(error) if error.code() == Some(ErrorCode::PermissionDenied) => Vec::new(),
        counters => counters?,
    };
    let row = described(&common.server, &greeted, &pinged, latency, &counters);
    print_one(
        common.output.unwrap_or(Format::Table),
        &row,
        &mut stdout().lock(),
    )
    .map_err(|error| Fault::stdout(&error))?;
    Ok(if pinged.state == 0 {
        Exit::Done
    } else {
        Exit::Refused
    })
}

fn described(
    server: &str,
    greeted: &Greeted,
    pinged: &Pinged,
    latency: Duration,
    counters: &[Counter],
) -> Row {
    let state = match pinged.state {
        0 => "ok".to_owned(),
        1 => "low_space".to_owned(),
        2 => "storage_failed".to_owned(),
        other => format!("unknown({other})"),
    };
    let limits = greeted
        .limits
        .iter()
        .fold(Row::new(), |row, limit| match limit.value.parse() {
            Ok(number) => row.count(&limit.key, number),
            Err(_) => row.text(&limit.key, &limit.value),
        });
    let counters = counters.iter().fold(Row::new(), |row, counter| {
        row.count(&counter.name, counter.value)
    });
    Row::new()
        .text("state", state)
        .text("version", &greeted.version)
        .count(
            "latency_us",
            u64::try_from(latency.as_micros()).unwrap_or(u64::MAX),
        )
        .text("server", server)
        .count("node", greeted.node.0)
        .time("started", greeted.started_at)
        .time("now", pinged.now)
        .count("free_bytes", pinged.free_bytes)
        .fields("limits", limits)
        .fields("counters", counters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_described_with_its_state_and_counters() {
        let pinged = Pinged {
            state: 1,
            now: 2_000_000,
            free_bytes: 7,
        };
        let counters = [Counter {
            name: "records_produced".to_owned(),
            value: 3,
        }];
        let row = described(
            "h:1",
            &Greeted::default(),
            &pinged,
            Duration::from_micros(80),
            &counters,
        );
        let mut out = Vec::new();
        print_one(Format::Json, &row, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"state\":\"low_space\",\"version\":\"\",\"latency_us\":80,\"server\":\"h:1\",\
             \"node\":0,\"started\":null,\"now\":\"1970-01-01T00:00:02.000000Z\",\"free_bytes\":7,\
             \"limits\":{},\"counters\":{\"records_produced\":3}}\n"
        );
    }
}
