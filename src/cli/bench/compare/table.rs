//! The table of a comparison: rows of figures, a column for each system.
//!
//! Owns its three forms: text for a terminal, Markdown for documents, and its part of the report's
//! JSON. A ratio
//! says how many times better logdrive is; what a peer does better is marked in every form.

use std::fmt::Write;

use serde::Serialize;

use crate::cli::bench::figure::{Report, Unit};

/// What the ratios are.
const LEGEND: &str = "In parentheses: how many times better logdrive is (rates: logdrive / peer; \
times and sizes: peer / logdrive).";

/// Everything that one comparison has measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Table {
    /// The columns; logdrive is the first.
    systems: Vec<System>,
    /// What is not installed, and so not compared.
    missing: Vec<String>,
    rows: Vec<Line>,
}

/// A column.
#[derive(Clone, Debug, Serialize)]
pub(super) struct System {
    pub(super) name: &'static str,
    pub(super) version: String,
    /// When it answers a produce.
    pub(super) durability: &'static str,
    /// Whether that is after an fsync.
    pub(super) fsync_before_answer: bool,
}

/// What a row is about.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) unit: Unit,
    pub(super) better: Better,
}

/// Which way is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Better {
    More,
    Less,
    /// Not a figure of the system.
    Neither,
}

#[derive(Clone, Debug, Serialize)]
struct Line {
    #[serde(flatten)]
    row: Row,
    cells: Vec<Cell>,
}

/// One figure of one system.
#[derive(Clone, Debug, Serialize)]
struct Cell {
    value: Option<f64>,
    /// Why there is no value.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// How many times better logdrive is.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
}

impl Cell {
    fn is_better_than_logdrive(&self) -> bool {
        self.ratio.is_some_and(|ratio| ratio < 1.0)
    }
}

impl Table {
    /// One without rows.
    pub(super) fn new(systems: Vec<System>, missing: Vec<String>) -> Self {
        Self {
            systems,
            missing,
            rows: Vec::new(),
        }
    }

    /// Adds rows; `columns` has the values or the error of each system, in the order of rows.
    pub(super) fn add(&mut self, rows: Vec<Row>, columns: &[(Vec<f64>, Option<String>)]) {
        for (index, row) in rows.into_iter().enumerate() {
            let value = |column: &(Vec<f64>, _)| column.0.get(index).copied();
            let ours = columns.first().and_then(value);
            let cells = columns.iter().enumerate().map(|(number, column)| {
                let value = value(column);
                let ratio = match row.better {
                    Better::More => ours.zip(value).map(|(ours, theirs)| ours / theirs),
                    Better::Less => ours.zip(value).map(|(ours, theirs)| theirs / ours),
                    Better::Neither => None,
                };
                Cell {
                    value,
                    error: column.1.clone().filter(|_| value.is_none()),
                    ratio: ratio.filter(|ratio| number > 0 && ratio.is_finite()),
                }
            });
            let cells = cells.collect();
            self.rows.push(Line { row, cells });
        }
    }

    /// Whether a figure is missing because something failed.
    pub(super) fn has_errors(&self) -> bool {
        let mut cells = self.rows.iter().flat_map(|line| &line.cells);
        cells.any(|cell| cell.value.is_none())
    }

    /// Aligned text.
    pub(super) fn text(&self, about: &Report) -> String {
        let mut text = String::new();
        for (letter, system) in ('A'..).zip(&self.systems) {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{letter}  {}", system.line());
        }
        for line in self.notes(about) {
            let _ = writeln!(text, "{line}");
        }
        let _ = writeln!(text, "{LEGEND} Marked with <: what a peer does better.\n");
        let mut errors = Vec::new();
        let mut grid: Vec<Vec<String>> = vec![
            std::iter::once("figure".to_owned())
                .chain(('A'..).take(self.systems.len()).map(|it| format!("{it}  ")))
                .collect(),
        ];
        for line in &self.rows {
            let mark = |cell: &Cell| {
                if cell.is_better_than_logdrive() {
                    " <"
                } else {
                    "  "
                }
            };
            let mut cells = vec![line.row.title()];
            for cell in &line.cells {
                cells.push(format!(
                    "{}{}",
                    line.row.show(cell, &mut errors),
                    mark(cell)
                ));
            }
            grid.push(cells);
        }
        for row in &grid {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let width = grid.iter().map(|row| row[column].chars().count()).max();
                let width = width.unwrap_or(0);
                let _ = match column {
                    0 => write!(line, "{cell:<width$}"),
                    _ => write!(line, "  {cell:>width$}"),
                };
            }
            let _ = writeln!(text, "{}", line.trim_end());
        }
        for (number, error) in (1..).zip(errors) {
            let _ = writeln!(text, "error {number}: {error}");
        }
        text
    }

    /// A table for documents, with the machine, the date and the versions.
    pub(super) fn markdown(&self, about: &Report) -> String {
        let mut text = "| |".to_owned();
        for system in &self.systems {
            let _ = write!(
                text,
                " {} {}, {} |",
                system.name,
                system.version,
                if system.fsync_before_answer {
                    "fsync first"
                } else {
                    "no fsync"
                }
            );
        }
        let _ = writeln!(text, "\n|---|{}", "---:|".repeat(self.systems.len()));
        let mut errors = Vec::new();
        for line in &self.rows {
            let _ = write!(text, "| {} |", line.row.title());
            for cell in &line.cells {
                let mark = if cell.is_better_than_logdrive() {
                    "**"
                } else {
                    ""
                };
                let shown = line.row.show(cell, &mut errors);
                let _ = write!(text, " {mark}{shown}{mark} |");
            }
            text.push('\n');
        }
        let _ = writeln!(text, "\n{LEGEND} Bold: what a peer does better.\n");
        for system in &self.systems {
            let _ = writeln!(text, "- {}", system.line());
        }
        for line in self.notes(about) {
            let _ = writeln!(text, "- {line}");
        }
        for (number, error) in (1..).zip(errors) {
            let _ = writeln!(text, "- error {number}: {error}");
        }
        text
    }

    /// When and where the report was made, and what is not in it.
    fn notes(&self, about: &Report) -> Vec<String> {
        let mut notes = vec![format!("{}, {}", about.date, about.machine)];
        if cfg!(debug_assertions) {
            notes.push("NOT OPTIMISED: the figures of this build say nothing".to_owned());
        }
        for name in &self.missing {
            notes.push(format!("not installed, and so not compared: {name}"));
        }
        notes
    }
}

impl System {
    fn line(&self) -> String {
        format!("{} {}: {}", self.name, self.version, self.durability)
    }
}

impl Row {
    /// Its name, with the unit where cells leave it out.
    fn title(&self) -> String {
        match self.unit {
            Unit::RecordsPerSecond => format!("{}, records/s", self.name),
            _ => self.name.clone(),
        }
    }

    /// A cell; errors get a number and are told below the table.
    fn show(&self, cell: &Cell, errors: &mut Vec<String>) -> String {
        let Some(value) = cell.value else {
            let error = cell.error.clone().unwrap_or_default();
            let known = errors.iter().position(|it| *it == error);
            let number = known.unwrap_or(errors.len());
            if known.is_none() {
                errors.push(error);
            }
            return format!("error {}", number + 1);
        };
        let shown = self.unit.show(value);
        let shown = shown.strip_suffix(" records/s").unwrap_or(&shown);
        match cell.ratio {
            None => shown.to_owned(),
            Some(ratio) if ratio < 10.0 => format!("{shown} ({ratio:.2})"),
            Some(ratio) => format!("{shown} ({ratio:.0})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::machine::Machine;
    use std::path::Path;

    fn table() -> Table {
        let system = |name, durability| System {
            name,
            version: "1.0".to_owned(),
            durability,
            fsync_before_answer: name == "logdrive",
        };
        let systems = vec![system("logdrive", "synced"), system("Other", "later")];
        let mut table = Table::new(systems, vec!["third-server".to_owned()]);
        let row = |name: &str, unit, better| Row {
            name: name.to_owned(),
            unit,
            better,
        };
        let rows = vec![
            row("disk", Unit::BytesPerSecond, Better::Neither),
            row("rate", Unit::RecordsPerSecond, Better::More),
            row("time", Unit::Seconds, Better::Less),
            row("size", Unit::Bytes, Better::Less),
        ];
        let ours = (vec![3e8, 50_000.0, 0.002, 100.0], None);
        let theirs = (vec![4e8, 4_000.0, 0.001], Some("it \"broke\"".to_owned()));
        table.add(rows, &[ours, theirs]);
        table
    }

    fn report() -> Report {
        Report::new(Machine::of(Path::new(".")))
    }

    #[test]
    fn ratios_say_how_many_times_better_logdrive_is_and_peers_that_are_better_are_marked() {
        let text = table().text(&report());
        let lines: Vec<&str> = text.lines().rev().take(6).collect();
        assert_eq!(
            lines,
            [
                "error 1: it \"broke\"",
                "size             100 bytes           error 1",
                "time               2.00 ms    1.00 ms (0.50) <",
                "rate, records/s     50,000        4,000 (12)",
                "disk              300 MB/s          400 MB/s",
                "figure                   A                 B",
            ]
        );
        assert!(text.contains("A  logdrive 1.0: synced\nB  Other 1.0: later\n"));
        assert!(text.contains("not installed, and so not compared: third-server"));
    }

    #[test]
    fn markdown_has_the_same_cells_and_says_what_was_compared() {
        let markdown = table().markdown(&report());
        for expected in [
            "| | logdrive 1.0, fsync first | Other 1.0, no fsync |\n|---|---:|---:|\n",
            "| rate, records/s | 50,000 | 4,000 (12) |\n",
            "| time | 2.00 ms | **1.00 ms (0.50)** |\n",
            "| size | 100 bytes | error 1 |\n",
            "- Other 1.0: later\n",
            "- error 1: it \"broke\"\n",
        ] {
            assert!(markdown.contains(expected), "{markdown}");
        }
    }

    #[test]
    fn json_has_values_ratios_and_errors() {
        let table = table();
        assert!(table.has_errors());
        let json = serde_json::to_value(&table).unwrap();
        let time = &json["rows"][2];
        assert_eq!(time["better"], "less");
        assert_eq!(time["cells"][1]["ratio"], 0.5);
        assert_eq!(json["rows"][3]["cells"][1]["error"], "it \"broke\"");
        assert_eq!(
            json["rows"][3]["cells"][1]["value"],
            serde_json::Value::Null
        );
        assert!(json["rows"][0]["cells"][1].get("ratio").is_none());
    }
}
