//! Figures and the report that they make: what was measured, in which unit, beside which limit.
//!
//! Owns the form of `bench.json` and how a figure is written for people. It measures nothing.
//!
//! ```text
//!  Report ── version, program, time, machine
//!    └── Figure ── name, line that measures it again, parameters
//!          ├── value, unit
//!          ├── Limit: what, value (mean of before and after) ──► ratio = value / limit
//!          ├── Reach: at least or at most, of the value or of the ratio ──► met
//!          ├── Costs: CPU and memory of the broker and of the load generator
//!          └── Series: points of a chart
//! ```

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::time::Duration;

use serde::Serialize;

use super::compare::Table;
use super::machine::{Costs, Machine};

/// Version of the report's form: it grows when a key changes its meaning or goes.
const VERSION: u32 = 1;

/// Everything that one run has measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    version: u32,
    /// The program's version.
    pub(super) logdrive: &'static str,
    /// Whether the compiler optimised it; figures of other builds say nothing.
    pub(super) optimised: bool,
    /// When the run began: RFC 3339, UTC.
    pub(super) date: String,
    pub(super) machine: Machine,
    pub(crate) figures: Vec<Figure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) comparison: Option<Table>,
}

/// One value, and what it is to be seen beside.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    /// What was measured, unique in a report: `produce, 1 KiB, pipelined`.
    pub(crate) name: String,
    /// The arguments of `logdrive bench` that measure it again.
    pub(super) line: String,
    pub(super) parameters: BTreeMap<&'static str, String>,
    pub(crate) value: f64,
    pub(crate) unit: Unit,
    pub(super) limit: Option<Limit>,
    /// Value through limit.
    pub(crate) ratio: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) reach: Vec<Reach>,
    pub(super) costs: Option<Costs>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) series: Vec<Series>,
}

/// What a value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "&'static str")]
pub(crate) enum Unit {
    RecordsPerSecond,
    BytesPerSecond,
    Seconds,
    Bytes,
    /// A plain quotient.
    Times,
    CorePercent,
}

/// The best that could be: what the machine alone does, or the shape that is compared with.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Limit {
    pub(super) what: String,
    /// In the figure's unit.
    pub(crate) value: f64,
    /// Measured directly before, and directly after, where it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) around: Option<(f64, f64)>,
}

/// What a figure is asked to be.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Reach {
    pub(super) bound: Bound,
    pub(super) of: Of,
    pub(super) value: f64,
    pub(super) met: bool,
}

/// Which side of a bound is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    AtLeast,
    AtMost,
}

/// What a bound is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Of {
    Value,
    Ratio,
}

/// Points of a chart, in the order of `x`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Series {
    pub(super) name: String,
    /// What the points count: `x` first.
    pub(super) axes: (&'static str, &'static str),
    pub(super) points: Vec<(f64, f64)>,
}

impl Report {
    /// An empty one, of this program, begun now.
    pub(super) fn new(machine: Machine) -> Self {
        Self {
            version: VERSION,
            logdrive: env!("CARGO_PKG_VERSION"),
            optimised: !cfg!(debug_assertions),
            date: jiff::Timestamp::now().strftime("%FT%TZ").to_string(),
            machine,
            figures: Vec::new(),
            comparison: None,
        }
    }
}

impl Figure {
    /// A value alone.
    pub(crate) fn new(name: impl Into<String>, value: f64, unit: Unit) -> Self {
        Self {
            name: name.into(),
            line: String::new(),
            parameters: BTreeMap::new(),
            value,
            unit,
            limit: None,
            ratio: None,
            reach: Vec::new(),
            costs: None,
            series: Vec::new(),
        }
    }

    /// Likewise, of a duration.
    pub(crate) fn seconds(name: impl Into<String>, value: Duration) -> Self {
        Self::new(name, value.as_secs_f64(), Unit::Seconds)
    }

    /// Puts it beside a limit, in the same unit.
    #[must_use]
    pub(crate) fn beside(mut self, limit: Limit) -> Self {
        self.ratio = (limit.value > 0.0).then(|| self.value / limit.value);
        self.limit = Some(limit);
        self
    }

    /// Notes how it was measured.
    #[must_use]
    pub(crate) fn parameter(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.parameters.insert(name, value.to_string());
        self
    }

    /// Notes what it took.
    #[must_use]
    pub(crate) fn costing(mut self, costs: Costs) -> Self {
        self.costs = Some(costs);
        self
    }

    /// Adds a chart's points.
    #[must_use]
    pub(crate) fn with_series(mut self, series: Series) -> Self {
        self.series.push(series);
        self
    }

    /// Adds what is asked of it.
    pub(super) fn reaching(&mut self, bound: Bound, of: Of, value: f64) {
        let got = match of {
            Of::Value => Some(self.value),
            Of::Ratio => self.ratio,
        };
        let met = got.is_some_and(|got| match bound {
            Bound::AtLeast => got >= value,
            Bound::AtMost => got <= value,
        });
        self.reach.push(Reach {
            bound,
            of,
            value,
            met,
        });
    }

    /// One aligned line: name, value, limit, ratio, costs.
    pub(crate) fn shown(&self) -> String {
        let limit = self.limit.as_ref();
        let limit = limit.map_or_else(String::new, |it| self.unit.show(it.value));
        let ratio = self.ratio.map_or_else(String::new, |it| format!("{it:.2}"));
        let value = self.unit.show(self.value);
        let mut line = format!("{:<68} {value:>19} {limit:>19} {ratio:>7}", self.name);
        if let Some(costs) = &self.costs {
            // Writing to a String cannot fail.
            let _ = write!(line, "  {costs}");
        }
        line.trim_end().to_owned()
    }
}

/// What stands above the lines of figures.
pub(crate) const HEADING: &str = "\
figure                                                                             value               limit   ratio  CPU s per million records, peak memory";

impl Limit {
    /// A limit that was measured once.
    pub(crate) fn new(what: impl Into<String>, value: f64) -> Self {
        Self {
            what: what.into(),
            value,
            around: None,
        }
    }

    /// A limit that was measured directly before and after: their mean.
    pub(crate) fn around(what: impl Into<String>, before: f64, after: f64) -> Self {
        Self {
            what: what.into(),
            value: f64::midpoint(before, after),
            around: Some((before, after)),
        }
    }

    /// What it is, and both of its halves.
    pub(super) fn describe(&self, unit: Unit) -> String {
        match self.around {
            None => format!("{}: {}", self.what, unit.show(self.value)),
            Some((before, after)) => format!(
                "{}: {} before, {} after",
                self.what,
                unit.show(before),
                unit.show(after)
            ),
        }
    }
}

impl From<Unit> for &'static str {
    fn from(unit: Unit) -> Self {
        unit.name()
    }
}

impl Unit {
    /// As it stands in JSON.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::RecordsPerSecond => "records/s",
            Self::BytesPerSecond => "bytes/s",
            Self::Seconds => "s",
            Self::Bytes => "bytes",
            Self::Times => "times",
            Self::CorePercent => "% of a core",
        }
    }

    /// A value with this unit, as people read it.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Self::RecordsPerSecond => format!("{} records/s", thousands(value)),
            Self::BytesPerSecond => format!("{} MB/s", round(value / 1e6)),
            Self::Seconds if value < 1.0 => format!("{} ms", round(value * 1e3)),
            Self::Seconds => format!("{} s", round(value)),
            Self::Bytes if value < 1e6 => format!("{} bytes", thousands(value)),
            Self::Bytes => format!("{} MB", round(value / 1e6)),
            Self::Times => format!("{value:.2} times"),
            Self::CorePercent => format!("{value:.2} % of a core"),
        }
    }
}

/// Three digits that count.
fn round(value: f64) -> String {
    match value.abs() {
        0.0..1.0 => format!("{value:.3}"),
        1.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => thousands(value),
    }
}

/// Whole numbers in groups of three digits.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && digit.is_ascii_digit() && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(unit: Unit, value: f64, expected: &str) {
        assert_eq!(unit.show(value), expected);
    }

    #[test]
    fn values_are_shown_with_the_digits_that_count() {
        check(Unit::RecordsPerSecond, 1_234_567.8, "1,234,568 records/s");
        check(Unit::RecordsPerSecond, 80.0, "80 records/s");
        check(Unit::BytesPerSecond, 813_400_000.0, "813 MB/s");
        check(Unit::BytesPerSecond, 2_400_000_000.0, "2,400 MB/s");
        check(Unit::Seconds, 0.000_291_2, "0.291 ms");
        check(Unit::Seconds, 0.012, "12.0 ms");
        check(Unit::Seconds, 1.5, "1.50 s");
        check(Unit::Bytes, 8192.0, "8,192 bytes");
        check(Unit::Bytes, 90e6, "90.0 MB");
        check(Unit::Times, 1.162, "1.16 times");
    }

    #[test]
    fn a_limit_around_a_figure_is_the_mean_of_both_and_the_ratio_is_to_it() {
        let figure = Figure::new("produce", 300e6, Unit::BytesPerSecond)
            .beside(Limit::around("disk", 300e6, 500e6));
        assert_eq!(figure.ratio, Some(0.75));
        let line = figure.shown();
        assert!(
            line.contains("300 MB/s") && line.contains("400 MB/s"),
            "{line}"
        );
        assert!(line.ends_with("0.75"), "{line}");
        let limit = figure.limit.unwrap().describe(Unit::BytesPerSecond);
        assert_eq!(limit, "disk: 300 MB/s before, 500 MB/s after");
    }

    #[test]
    fn what_is_asked_is_met_on_its_own_side_only() {
        let mut figure = Figure::new("p50", 0.3, Unit::Seconds).beside(Limit::new("disk", 0.25));
        figure.reaching(Bound::AtMost, Of::Ratio, 1.3);
        figure.reaching(Bound::AtMost, Of::Ratio, 1.1);
        figure.reaching(Bound::AtLeast, Of::Value, 0.3);
        figure.reaching(Bound::AtLeast, Of::Value, 0.4);
        let met: Vec<bool> = figure.reach.iter().map(|it| it.met).collect();
        assert_eq!(met, [true, false, true, false]);
    }
}
