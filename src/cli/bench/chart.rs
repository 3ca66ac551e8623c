//! Charts as SVG text: lines over time, percentiles, and bars.
//!
//! Owns geometry and escaping; which series go together is decided by [`html`](super::html). Colours
//! are classes, given by the page's style sheet.

use std::fmt::Write;

/// A chart's size, and what is left for the text around it.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 34.0;
/// Height of a bar with its space.
const BAR: f64 = 22.0;
/// Where bars begin: left of it are their names.
const BAR_LEFT: f64 = 430.0;
/// Classes of colours that the style sheet knows.
pub(super) const COLOURS: usize = 8;

/// One line of a chart.
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    pub(super) points: Vec<(f64, f64)>,
}

/// How values become text beside an axis.
pub(super) type Label = fn(f64) -> String;

/// An axis: its ends, whether it is logarithmic, and where something is written.
struct Axis {
    from: f64,
    to: f64,
    logarithmic: bool,
    marks: Vec<f64>,
}

impl Axis {
    /// From 0 to a round number above all values, in up to five steps.
    fn from_zero(values: impl Iterator<Item = f64>) -> Self {
        let most = values.fold(0.0, f64::max);
        let most = if most > 0.0 { most } else { 1.0 };
        let power = 10_f64.powf((most / 4.0).log10().floor());
        let fits = [1.0, 2.0, 5.0, 10.0].map(|it| it * power);
        let step = fits.into_iter().find(|step| step * 5.0 >= most);
        let step = step.unwrap_or(most);
        let count = (most / step).ceil();
        Self {
            from: 0.0,
            to: step * count,
            logarithmic: false,
            marks: (0..=count as u32).map(|it| f64::from(it) * step).collect(),
        }
    }

    /// Whole powers of ten around all values.
    fn of_powers(values: impl Iterator<Item = f64>) -> Self {
        let values = values.filter(|it| *it > 0.0);
        let ends = values.fold((f64::MAX, f64::MIN), |(least, most), it| {
            (least.min(it), most.max(it))
        });
        let (least, most) = if ends.0 <= ends.1 { ends } else { (1.0, 10.0) };
        let first = least.log10().floor() as i32;
        let end = (most.log10().ceil() as i32).max(first + 1);
        Self {
            from: 10_f64.powi(first),
            to: 10_f64.powi(end),
            logarithmic: true,
            marks: (first..=end).map(|power| 10_f64.powi(power)).collect(),
        }
    }

    /// Where a value is, from 0 to 1.
    fn at(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value.max(self.from) / self.from).ln() / (self.to / self.from).ln()
        } else {
            (value - self.from) / (self.to - self.from)
        };
        share.clamp(0.0, 1.0)
    }
}

/// Lines over a plain axis, from zero in both directions.
pub(super) fn over_time(lines: &[Line], x: Label, y: Label) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let axes = (
        Axis::from_zero(points().map(|it| it.0)),
        Axis::from_zero(points().map(|it| it.1)),
    );
    chart(lines, &axes, |value| value, x, y)
}

/// Lines over percentiles, spread towards 100 by the number of nines; `y` is logarithmic.
pub(super) fn percentiles(lines: &[Line], y: Label) -> String {
    let nines = |percent: f64| -(1.0 - percent.min(99.99) / 100.0).log10();
    let marks = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99];
    let across = Axis {
        from: 0.0,
        to: nines(100.0),
        logarithmic: false,
        marks: marks.into(),
    };
    let values = lines.iter().flat_map(|line| &line.points).map(|it| it.1);
    let axes = (across, Axis::of_powers(values));
    chart(lines, &axes, nines, |percent| format!("{percent} %"), y)
}

fn chart(
    lines: &[Line],
    (across, up): &(Axis, Axis),
    place: impl Fn(f64) -> f64,
    x: Label,
    y: Label,
) -> String {
    let left = |value: f64| LEFT + across.at(place(value)) * (WIDTH - LEFT - RIGHT);
    let down = |value: f64| TOP + (1.0 - up.at(value)) * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">");
    // Writing to a String cannot fail.
    for &mark in &up.marks {
        let (at, right, text) = (down(mark), WIDTH - RIGHT, escape(&y(mark)));
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text class=\"mark\" text-anchor=\"end\" x=\"{:.1}\" y=\"{:.1}\">{text}</text>",
            LEFT - 6.0,
            at + 4.0
        );
    }
    for &mark in &across.marks {
        let (at, text) = (left(mark), escape(&x(mark)));
        let _ = write!(
            svg,
            "<text class=\"mark\" text-anchor=\"middle\" x=\"{at:.1}\" y=\"{:.1}\">{text}</text>",
            HEIGHT - BOTTOM + 18.0
        );
    }
    for (index, line) in lines.iter().enumerate() {
        let colour = index % COLOURS;
        let points = line.points.iter();
        let points: Vec<String> = points
            .map(|&(x, y)| format!("{:.1},{:.1}", left(x), down(y)))
            .collect();
        let (points, name) = (points.join(" "), escape(line.name));
        let _ = write!(
            svg,
            "<polyline class=\"c{colour}\" points=\"{points}\"><title>{name}</title></polyline>"
        );
    }
    svg + "</svg>" + &legend(lines)
}

fn legend(lines: &[Line]) -> String {
    let mut html = String::from("<p class=\"legend\">");
    for (index, line) in lines.iter().enumerate() {
        let (colour, name) = (index % COLOURS, escape(line.name));
        let _ = write!(html, "<span class=\"k{colour}\">{name}</span> ");
    }
    html + "</p>"
}

/// A bar for each name, from 0 to 1 or beyond, with a line at 1.
pub(super) fn bars(rows: &[(&str, f64)]) -> String {
    let axis = Axis::from_zero(rows.iter().map(|row| row.1).chain([1.0]));
    let room = WIDTH - BAR_LEFT - 60.0;
    let height = BAR * rows.len() as f64 + 4.0;
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">");
    for (index, &(name, value)) in rows.iter().enumerate() {
        let top = BAR * index as f64 + 2.0;
        let (long, name, text) = (axis.at(value) * room, escape(name), top + 14.0);
        let _ = write!(
            svg,
            "<text class=\"mark\" text-anchor=\"end\" x=\"{:.1}\" y=\"{text:.1}\">{name}</text>\
             <rect class=\"bar\" x=\"{BAR_LEFT}\" y=\"{top:.1}\" width=\"{long:.1}\" height=\"{:.1}\"/>\
             <text class=\"mark\" x=\"{:.1}\" y=\"{text:.1}\">{value:.2}</text>",
            BAR_LEFT - 6.0,
            BAR - 6.0,
            BAR_LEFT + long + 6.0
        );
    }
    let one = BAR_LEFT + axis.at(1.0) * room;
    let _ = write!(
        svg,
        "<line class=\"limit\" x1=\"{one:.1}\" x2=\"{one:.1}\" y1=\"0\" y2=\"{height}\"/></svg>"
    );
    svg
}

/// Text as it may stand in HTML and in attributes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers_above_all_values() {
        let from_zero = |values: &[f64]| Axis::from_zero(values.iter().copied()).marks;
        assert_eq!(
            from_zero(&[3.0, 870.0]),
            [0.0, 200.0, 400.0, 600.0, 800.0, 1000.0]
        );
        assert_eq!(from_zero(&[]).len(), 6);
        assert_eq!(from_zero(&[0.0]).len(), 6);
        let powers = |values: &[f64]| Axis::of_powers(values.iter().copied()).marks;
        assert_eq!(powers(&[2.0, 300.0]), [1.0, 10.0, 100.0, 1000.0]);
        assert_eq!(powers(&[0.0]), [1.0, 10.0]);
        assert_eq!(powers(&[]), [1.0, 10.0]);
    }

    #[test]
    fn everything_drawn_is_inside_whatever_is_measured() {
        for value in [f64::MIN_POSITIVE, 0.0, 1.0, 1e12] {
            let line = |name| Line {
                name,
                points: vec![(0.0, value), (100.0, value), (50.0, 0.0)],
            };
            let label: Label = |it| it.to_string();
            for svg in [
                over_time(&[line("a")], label, label),
                percentiles(&[line("a")], label),
                bars(&[("a", value)]),
            ] {
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
                assert_eq!(svg.matches("<svg").count(), svg.matches("</svg>").count());
            }
        }
    }

    #[test]
    fn names_cannot_break_out_of_the_text() {
        assert_eq!(escape("a<b>&\"'"), "a&lt;b&gt;&amp;&quot;&#39;");
        let svg = bars(&[("</svg><script>", 1.0)]);
        assert!(!svg.contains("<script>"), "{svg}");
    }
}
