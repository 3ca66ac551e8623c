//! What the demo prints at the end: the checker's report, the recoveries and the latencies.
//!
//! Owns what counts as a fault of the demo. Pure: the notes were taken before.

use std::fmt::Write as _;
use std::time::Duration;

use indicatif::HumanCount;

use crate::cli::output::{Format, Row, print_one};
use crate::history::{Fault, Report};

/// Everything that was seen.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) report: Report,
    /// From each start after a kill to the first answer.
    pub(super) recoveries: Vec<Duration>,
    /// Kills that were planned.
    pub(super) kills: usize,
    /// Final sizes that should have been asked for.
    pub(super) sizes: u64,
    /// Of every acknowledged record, in any order.
    pub(super) latencies: Vec<Duration>,
    /// What went wrong in words, beside what the report says.
    pub(super) errors: Vec<String>,
}

impl Verdict {
    fn count(&self, faults: &[Fault]) -> u64 {
        faults.iter().map(|&fault| self.report.count(fault)).sum()
    }

    /// Acknowledged records that are gone, and records that a consumer was never given.
    fn lost(&self) -> u64 {
        self.count(&[Fault::Lost, Fault::Skipped]) + self.report.reported_lost
    }

    /// Records stored twice, and records that a consumer was given twice.
    fn duplicated(&self) -> u64 {
        self.count(&[Fault::Duplicated, Fault::Repeated])
    }

    fn out_of_order(&self) -> u64 {
        self.count(&[Fault::OutOfOrder])
    }

    fn sizes_zero(&self) -> bool {
        self.report.sizes_zero() && self.report.sizes == self.sizes
    }

    fn restart(&self) -> Duration {
        self.recoveries.iter().max().copied().unwrap_or_default()
    }

    /// Everything that speaks against the broker, in words; empty if nothing does.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = self.errors.clone();
        let open = self.report.sent - self.report.acknowledged;
        for (count, what) in [
            (self.lost(), "lost"),
            (self.duplicated(), "duplicated"),
            (self.out_of_order(), "out of order"),
            (self.count(&[Fault::TwoValues]), "offsets with two values"),
            (self.count(&[Fault::Phantom]), "that nobody sent"),
            (self.count(&[Fault::OffsetReused]), "offsets given twice"),
            (self.count(&[Fault::SizeWrong]), "wrong sizes"),
            (open, "never acknowledged"),
        ] {
            if count > 0 {
                faults.push(format!("{count} {what}"));
            }
        }
        if self.report.sent == 0 {
            faults.push("nothing was produced".to_owned());
        }
        if !self.sizes_zero() {
            faults.push("a consumer's size is not zero".to_owned());
        }
        if self.recoveries.len() != self.kills {
            faults.push(format!(
                "{} of {} kills done",
                self.recoveries.len(),
                self.kills
            ));
        }
        faults
    }

    /// Prints it in a form other than the table as one object.
    pub(super) fn print(
        &self,
        format: Format,
        out: &mut impl std::io::Write,
    ) -> std::io::Result<()> {
        if format == Format::Table {
            out.write_all(self.table().as_bytes())?;
            return out.flush();
        }
        print_one(format, &self.row(), out)
    }

    fn words(&self) -> String {
        let faults = self.faults();
        if faults.is_empty() {
            "ok".to_owned()
        } else {
            format!("fault: {}", faults.join(", "))
        }
    }

    fn row(&self) -> Row {
        Row::new()
            .count("produced", self.report.acknowledged)
            .count("consumed", self.report.consumed)
            .count("lost", self.lost())
            .count("duplicated", self.duplicated())
            .count("out_of_order", self.out_of_order())
            .flag("sizes_zero", self.sizes_zero())
            .count(
                "restart_ms",
                u64::try_from(self.restart().as_millis()).unwrap_or(u64::MAX),
            )
            .text("verdict", self.words())
    }

    fn table(&self) -> String {
        let mut text = String::new();
        let recoveries: Vec<_> = self.recoveries.iter().copied().map(shown).collect();
        let mut line = |name: &str, value: String, note: &str| {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{}",
                format!("{name:16}{value:>10}  {note}").trim_end()
            );
        };
        let number = |count: u64| HumanCount(count).to_string();
        line(
            "produced",
            number(self.report.acknowledged),
            "records acknowledged as synced",
        );
        line(
            "consumed",
            number(self.report.consumed),
            "deliveries to consumers",
        );
        line(
            "lost",
            number(self.lost()),
            "acknowledged and gone, or never given to a consumer",
        );
        line(
            "duplicated",
            number(self.duplicated()),
            "stored twice, or given to a consumer twice",
        );
        line(
            "out of order",
            number(self.out_of_order()),
            "against their producer's order",
        );
        let zero = if self.sizes_zero() {
            "all zero"
        } else {
            "NOT ZERO"
        };
        line(
            "sizes",
            zero.to_owned(),
            "left for each consumer of each topic at the end",
        );
        line(
            "recovery",
            shown(self.restart()),
            &format!(
                "slowest restart after SIGKILL, to the first answer ({})",
                recoveries.join(", ")
            ),
        );
        for (name, share) in [
            ("p50", 0.5),
            ("p99", 0.99),
            ("p99.9", 0.999),
            ("slowest", 1.0),
        ] {
            let latency = percentile(&self.latencies, share);
            line(&format!("latency {name}"), shown(latency), "");
        }
        let words = self.words();
        let _ = writeln!(text, "verdict         {words}");
        for anomaly in self.report.anomalies() {
            let _ = writeln!(text, "  {anomaly}");
        }
        text
    }
}

/// The least latency that so great a share of them does not exceed.
fn percentile(latencies: &[Duration], share: f64) -> Duration {
    let mut sorted = latencies.to_vec();
    sorted.sort_unstable();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a rank among some millions"
    )]
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or_default()
}

fn shown(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Answer, Origin, Read, Recorder, check};

    /// Two records of P1 in T-1, both read and consumed, at the offsets given.
    fn notes(read: &[u64], consumed: &[u64], size: u64) -> Recorder {
        let mut notes = Recorder::new();
        for sequence in 0..2 {
            let origin = Origin {
                topic: "T-1",
                producer: "P1",
                sequence,
            };
            notes.sent(origin, sequence);
            notes.acknowledged(origin, sequence);
        }
        let answer = Answer {
            topic: "T-1",
            consumer: Some("C1"),
            worker: 1,
            number: 1,
        };
        let at = |&offset: &u64| Read {
            offset,
            fingerprint: offset,
        };
        consumed
            .iter()
            .map(at)
            .for_each(|read| notes.delivered(answer, read));
        read.iter()
            .map(at)
            .for_each(|read| notes.finally_read("T-1", read));
        notes.sized("T-1", "C1", size);
        notes
    }

    fn verdict(notes: Recorder) -> Verdict {
        Verdict {
            report: check([notes]),
            recoveries: vec![Duration::from_millis(31), Duration::from_micros(28_500)],
            kills: 2,
            sizes: 1,
            latencies: (1..=1000).map(Duration::from_micros).collect(),
            errors: Vec::new(),
        }
    }

    fn check_json(verdict: &Verdict, expected: &str) {
        let mut out = Vec::new();
        verdict.print(Format::Json, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), format!("{{{expected}}}\n"));
    }

    #[test]
    fn a_clean_run_is_ok() {
        check_json(
            &verdict(notes(&[0, 1], &[0, 1], 0)),
            r#""produced":2,"consumed":2,"lost":0,"duplicated":0,"out_of_order":0,"sizes_zero":true,"restart_ms":31,"verdict":"ok""#,
        );
    }

    #[test]
    fn a_lost_record_is_a_fault() {
        check_json(
            &verdict(notes(&[0], &[0], 0)),
            r#""produced":2,"consumed":1,"lost":1,"duplicated":0,"out_of_order":0,"sizes_zero":true,"restart_ms":31,"verdict":"fault: 1 lost""#,
        );
    }

    #[test]
    fn a_record_given_twice_is_a_fault() {
        let mut notes = notes(&[0, 1], &[0, 1], 0);
        let answer = Answer {
            topic: "T-1",
            consumer: Some("C1"),
            worker: 2,
            number: 1,
        };
        let read = Read {
            offset: 1,
            fingerprint: 1,
        };
        notes.delivered(answer, read);
        let faults = verdict(notes).faults();
        assert_eq!(faults, ["1 duplicated"]);
    }

    #[test]
    fn a_size_that_is_not_zero_or_was_not_asked_for_is_a_fault() {
        let faults = verdict(notes(&[0, 1], &[0], 1)).faults();
        assert_eq!(faults, ["a consumer's size is not zero"]);
        let mut short = verdict(notes(&[0, 1], &[0, 1], 0));
        short.sizes = 7;
        assert_eq!(short.faults(), ["a consumer's size is not zero"]);
    }

    #[test]
    fn a_run_without_all_its_kills_or_records_is_a_fault() {
        let mut tame = verdict(notes(&[0, 1], &[0, 1], 0));
        tame.recoveries.pop();
        assert_eq!(tame.faults(), ["1 of 2 kills done"]);
        let empty = Verdict::default();
        assert_eq!(
            empty.faults(),
            ["nothing was produced", "a consumer's size is not zero"]
        );
    }

    #[test]
    fn the_table_says_it_for_people() {
        let mut out = Vec::new();
        verdict(notes(&[0, 1], &[0, 1], 0))
            .print(Format::Table, &mut out)
            .unwrap();
        let text = String::from_utf8(out).unwrap();
        for line in [
            "produced                 2  records acknowledged as synced",
            "recovery           31.0 ms  slowest restart after SIGKILL, to the first answer (31.0 ms, 28.5 ms)",
            "latency p50         0.5 ms",
            "latency slowest     1.0 ms",
            "verdict         ok",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn percentiles_are_ranks() {
        let latencies: Vec<_> = (1..=1000).rev().map(Duration::from_micros).collect();
        for (share, micros) in [(0.5, 500), (0.99, 990), (0.999, 999), (1.0, 1000)] {
            assert_eq!(percentile(&latencies, share), Duration::from_micros(micros));
        }
        assert_eq!(percentile(&[], 0.5), Duration::ZERO);
    }
}
