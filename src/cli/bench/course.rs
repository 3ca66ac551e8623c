//! How something went on in time: a count that was looked at now and then.
//!
//! Owns the arithmetic of rates: over all, of a beginning and of the rest, and by slices of time.

use std::time::Duration;

use super::figure::Series;

/// Time between looks, and length of a chart's slices.
pub(crate) const SLICE: Duration = Duration::from_millis(100);

/// Looks at a growing count: each with the time since the start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Course(Vec<(Duration, u64)>);

impl Course {
    /// Notes the count of this moment.
    pub(crate) fn look(&mut self, at: Duration, count: u64) {
        self.0.push((at, count));
    }

    /// Per second, until the last look.
    pub(crate) fn rate(&self) -> f64 {
        self.0
            .last()
            .map_or(0.0, |&(at, count)| per_second(count, at))
    }

    /// Per second until `count` was reached, and after it; `None` where nothing came after it.
    pub(crate) fn rates_apart(&self, count: u64) -> Option<(f64, f64)> {
        let &(reached_at, reached) = self.0.iter().find(|it| it.1 >= count)?;
        let &(end, total) = self.0.last()?;
        let rest = per_second(total - reached, end.checked_sub(reached_at)?);
        (total > reached && end > reached_at).then(|| (per_second(reached, reached_at), rest))
    }

    /// Per second of each slice, times `scale`, over the seconds of the slices' ends.
    pub(crate) fn series(&self, name: impl Into<String>, scale: f64, unit: &'static str) -> Series {
        let mut points = Vec::new();
        let mut from = (Duration::ZERO, 0);
        for (index, &(at, count)) in self.0.iter().enumerate() {
            let took = at.saturating_sub(from.0);
            if took >= SLICE / 2 || (index + 1 == self.0.len() && points.is_empty()) {
                let rate = per_second(count - from.1, took) * scale;
                points.push((at.as_secs_f64(), rate));
                from = (at, count);
            }
        }
        Series {
            name: name.into(),
            axes: ("s", unit),
            points,
        }
    }
}

/// A count over a time; nothing where no time has passed.
pub(crate) fn per_second(count: u64, took: Duration) -> f64 {
    let seconds = took.as_secs_f64();
    if seconds > 0.0 {
        count as f64 / seconds
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(looks: &[(u64, u64)]) -> Course {
        let looks = looks
            .iter()
            .map(|&(at, count)| (Duration::from_millis(at), count));
        Course(looks.collect())
    }

    #[test]
    fn rates_are_of_the_whole_of_a_beginning_and_of_the_rest() {
        let course = course(&[(100, 10), (200, 30), (400, 40)]);
        assert_eq!(course.rate().to_string(), "100");
        assert_eq!(course.rates_apart(20), Some((150.0, 50.0)));
        assert_eq!(course.rates_apart(40), None);
        assert_eq!(course.rates_apart(41), None);
    }

    #[test]
    fn a_chart_has_a_point_for_each_slice_and_looks_that_follow_closely_are_one() {
        let course = course(&[(100, 10), (110, 11), (200, 30)]);
        let points = course.series("x", 2.0, "records/s").points;
        assert_eq!(points, [(0.1, 200.0), (0.2, 400.0)]);
        let short = super::Course(vec![(Duration::from_millis(10), 1)]);
        assert_eq!(short.series("x", 1.0, "records/s").points.len(), 1);
    }
}
