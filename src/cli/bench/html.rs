//! The report as one page that needs nothing else: figures as a table, shares as bars, charts.
//!
//! Owns the page. Nothing in it is fetched from anywhere, and every text is escaped.

use std::fmt::Write;

use super::chart::{self, Line, escape};
use super::figure::{Bound, Figure, Of, Reach, Report, Series, Unit};

const STYLE: &str = "\
:root{--bg:#fff;--fg:#1b1f24;--dim:#667;--grid:#dde;--bar:#3b6ea5;--good:#1a7f37;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--bg:#14171b;--fg:#e4e7eb;--dim:#99a;--grid:#333a44;--bar:#6fa3dc;--good:#56d364;--bad:#ff7b72}}
body{background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em}
table{border-collapse:collapse;width:100%}td,th{padding:.25em .6em;border-bottom:1px solid var(--grid);text-align:right;vertical-align:top}
td:first-child,th:first-child{text-align:left}td small{color:var(--dim);display:block}
.met{color:var(--good)}.missed{color:var(--bad)}
svg{width:100%;max-width:900px;height:auto;display:block}.grid{stroke:var(--grid)}.mark{fill:var(--dim);font-size:11px}
.bar{fill:var(--bar)}.limit{stroke:var(--bad);stroke-dasharray:4 3}polyline{fill:none;stroke-width:1.6}
.legend{color:var(--dim);font-size:13px}.legend span{margin-right:1em}.legend span::before{content:'\\25A0 '}
.c0{stroke:#3b6ea5}.c1{stroke:#d9822b}.c2{stroke:#3a9a5b}.c3{stroke:#b8474a}.c4{stroke:#8661a8}.c5{stroke:#8a6a4f}.c6{stroke:#c76ba6}.c7{stroke:#7d8790}
.k0::before{color:#3b6ea5}.k1::before{color:#d9822b}.k2::before{color:#3a9a5b}.k3::before{color:#b8474a}.k4::before{color:#8661a8}.k5::before{color:#8a6a4f}.k6::before{color:#c76ba6}.k7::before{color:#7d8790}
";

/// The whole page.
pub(super) fn page(report: &Report) -> String {
    let mut html = String::from(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>logdrive bench</title><style>",
    );
    html += STYLE;
    html += "</style></head><body><h1>logdrive bench</h1>";
    html += &head(report);
    html += &table(&report.figures);
    html += "<h2>Share of the limit</h2><p>1 is what the machine does without a broker, measured in \
             the same run; where less is better, the limit through the value.</p>";
    html += &shares(&report.figures);
    html += &latencies(&report.figures);
    html += &courses(&report.figures);
    html + "</body></html>\n"
}

fn head(report: &Report) -> String {
    let machine = escape(&report.machine.to_string());
    let (date, version) = (escape(&report.date), escape(report.logdrive));
    let mut html = format!("<p>logdrive {version}, {date}<br>{machine}</p>");
    html += "<p>Broker and load generator share the machine. The disk's limit is measured directly \
             before and after, with as many bytes; ratios are to the mean of both.</p>";
    if !report.optimised {
        html += "<p class=\"missed\">This build is not optimised: its figures say nothing.</p>";
    }
    html
}

fn table(figures: &[Figure]) -> String {
    let mut html = String::from(
        "<h2>Figures</h2><table><tr><th>figure</th><th>asked</th><th>got</th><th>limit</th>\
         <th>ratio</th><th>took</th></tr>",
    );
    for figure in figures {
        let name = escape(&figure.name);
        let line = escape(&figure.line);
        let asked: Vec<String> = figure
            .reach
            .iter()
            .map(|it| asked(it, figure.unit))
            .collect();
        let value = escape(&figure.unit.show(figure.value));
        let limit = figure.limit.as_ref();
        let limit = limit.map_or_else(String::new, |it| escape(&it.describe(figure.unit)));
        let ratio = figure
            .ratio
            .map_or_else(String::new, |it| format!("{it:.2}"));
        let took = figure.costs.map_or_else(String::new, |it| it.to_string());
        // Writing to a String cannot fail.
        let _ = write!(
            html,
            "<tr><td>{name}<small>bench {line}</small></td><td>{}</td><td>{value}</td>\
             <td>{limit}</td><td>{ratio}</td><td>{}</td></tr>",
            asked.join("<br>"),
            escape(&took)
        );
    }
    html + "</table><p>What was taken is CPU seconds per million records and peak memory.</p>"
}

/// What is asked, and whether it was met.
fn asked(reach: &Reach, unit: Unit) -> String {
    let bound = match reach.bound {
        Bound::AtLeast => "at least",
        Bound::AtMost => "at most",
    };
    let value = match reach.of {
        Of::Value => unit.show(reach.value),
        Of::Ratio => format!("{} of the limit", reach.value),
    };
    let (class, verdict) = if reach.met {
        ("met", "met")
    } else {
        ("missed", "missed")
    };
    format!(
        "<span class=\"{class}\">{bound} {}: {verdict}</span>",
        escape(&value)
    )
}

fn shares(figures: &[Figure]) -> String {
    let rows: Vec<(&str, f64)> = figures
        .iter()
        .filter_map(|figure| {
            let ratio = figure.ratio.filter(|ratio| *ratio > 0.0)?;
            let share = match figure.unit {
                Unit::RecordsPerSecond | Unit::BytesPerSecond => ratio,
                Unit::Seconds | Unit::Bytes | Unit::Times | Unit::CorePercent => ratio.recip(),
            };
            // What is compared with one producer alone is no share of a limit.
            (share < 3.0).then_some((figure.name.as_str(), share))
        })
        .collect();
    chart::bars(&rows)
}

fn lines<'a>(series: impl Iterator<Item = &'a Series>) -> Vec<Line<'a>> {
    let line = |it: &'a Series| Line {
        name: &it.name,
        points: it.points.clone(),
    };
    series.map(line).collect()
}

fn latencies(figures: &[Figure]) -> String {
    let series = figures.iter().flat_map(|it| &it.series);
    let lines = lines(series.filter(|it| it.axes.0 == "percent"));
    if lines.is_empty() {
        return String::new();
    }
    let label = |seconds: f64| Unit::Seconds.show(seconds);
    "<h2>Latency percentiles</h2>".to_owned() + &chart::percentiles(&lines, label)
}

/// A chart for each line that was run: its series over time.
fn courses(figures: &[Figure]) -> String {
    let mut html = String::from("<h2>Over time</h2>");
    for group in figures.chunk_by(|a, b| a.line == b.line) {
        for unit in [Unit::BytesPerSecond, Unit::RecordsPerSecond] {
            let series = group.iter().flat_map(|it| &it.series);
            let of_unit = series.filter(|it| it.axes == ("s", unit.name()));
            let lines = lines(of_unit);
            if let (Some(figure), false) = (group.first(), lines.is_empty()) {
                let y = match unit {
                    Unit::BytesPerSecond => |it: f64| Unit::BytesPerSecond.show(it),
                    _ => |it: f64| Unit::RecordsPerSecond.show(it),
                };
                let heading = escape(&figure.line);
                let svg = chart::over_time(&lines, |seconds| format!("{seconds} s"), y);
                let _ = write!(html, "<h3>bench {heading}</h3>{svg}");
            }
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cli::bench::figure::Limit;
    use crate::cli::bench::latencies::Latencies;
    use crate::cli::bench::machine::Machine;

    #[test]
    fn the_page_has_every_figure_escaped_and_nothing_from_elsewhere() {
        let mut report = Report::new(Machine::of(Path::new(".")));
        let mut figure = Figure::new("produce <1 KiB>", 5e8, Unit::BytesPerSecond)
            .beside(Limit::around("disk & co", 4e8, 6e8))
            .with_series(Latencies::new().unwrap().series("late"))
            .with_series(Series {
                name: "over time".to_owned(),
                axes: ("s", "bytes/s"),
                points: vec![(0.1, 4e8), (0.2, 6e8)],
            });
        figure.reaching(Bound::AtLeast, Of::Ratio, 0.85);
        figure.reaching(Bound::AtLeast, Of::Value, 9e8);
        report.figures.push(figure);
        let page = page(&report);
        for expected in [
            "produce &lt;1 KiB&gt;",
            "disk &amp; co: 400 MB/s before, 600 MB/s after",
            "class=\"met\">at least 0.85 of the limit: met",
            "class=\"missed\">at least 900 MB/s: missed",
            "<title>over time</title>",
            "<title>late</title>",
        ] {
            assert!(page.contains(expected), "{expected} is not in {page}");
        }
        assert!(
            !page.contains("<1 KiB>") && !page.contains("http"),
            "{page}"
        );
        assert_eq!(page.matches("<svg").count(), 3);
    }
}
