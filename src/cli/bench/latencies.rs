//! Latencies: gathered in a histogram of bounded size, given back as percentiles.
//!
//! Owns the range and precision: 100 ns to 100 s, three digits. Knows nothing of what was waited for.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::figure::Series;

/// Shortest and longest duration that are told apart, in nanoseconds.
const RANGE: (u64, u64) = (100, 100_000_000_000);
/// Digits that are kept.
const DIGITS: u8 = 3;
/// Percentiles of a chart.
const CHART: [f64; 14] = [
    0.0, 10.0, 25.0, 50.0, 75.0, 80.0, 90.0, 95.0, 98.0, 99.0, 99.5, 99.9, 99.99, 100.0,
];

/// Any number of durations.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    /// None yet.
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self(Histogram::new_with_bounds(RANGE.0, RANGE.1, DIGITS)?))
    }

    /// Takes one; a longer one than the range counts as its end.
    pub(crate) fn record(&mut self, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.0.saturating_record(nanoseconds);
    }

    /// Takes all of another's.
    pub(crate) fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        Ok(self.0.add(&other.0)?)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u64 {
        self.0.len()
    }

    /// The duration that so many percent do not exceed.
    pub(crate) fn percentile(&self, percent: f64) -> Duration {
        Duration::from_nanos(self.0.value_at_percentile(percent))
    }

    /// The longest.
    pub(crate) fn longest(&self) -> Duration {
        Duration::from_nanos(self.0.max())
    }

    /// Percentiles for a chart.
    pub(crate) fn series(&self, name: impl Into<String>) -> Series {
        let points = CHART.map(|percent| (percent, self.percentile(percent).as_secs_f64()));
        Series {
            name: name.into(),
            axes: ("percent", "s"),
            points: points.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let mut latencies = Latencies::new().unwrap();
        for microseconds in 1..=1000 {
            latencies.record(Duration::from_micros(microseconds));
        }
        latencies.record(Duration::from_secs(1000));
        assert_eq!(latencies.len(), 1001);
        let p50 = latencies.percentile(50.0).as_secs_f64();
        assert!((0.000_500..0.000_502).contains(&p50), "{p50}");
        let longest = latencies.longest().as_secs_f64();
        assert!((99.0..101.0).contains(&longest), "{longest}");
        let points = latencies.series("x").points;
        assert!(points.is_sorted_by(|a, b| a.1 <= b.1), "{points:?}");
    }
}
