//! The four forms of what goes to stdout, for everything but records.
//!
//! Owns how rows of named cells become text; knows no operation. The commands build [`Row`]s;
//! [`records`](super::records) does the same for records, by the million.
//!
//! | form | one thing | a list |
//! |---|---|---|
//! | `table` | `name  value` lines, lists below | columns under a heading |
//! | `raw` | `name=value` lines | the first cell of each, a line each |
//! | `json` | an object | an array of objects |
//! | `ndjson` | an object on one line | an object on one line each |

use std::fmt::Write as _;
use std::io::{self, Write};

use clap::ValueEnum;
use logdrive_protocol::position::format_time;
use serde::ser::{Serialize, SerializeMap, Serializer};

/// A form of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// The thing itself: bytes of records, bare names and values.
    Raw,
    /// For people.
    Table,
    /// One JSON document.
    Json,
    /// One JSON object on each line.
    Ndjson,
}

/// A value under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    Count(u64),
    Text(String),
    /// Microseconds since 1970 UTC; 0 is none.
    Time(u64),
    Flag(bool),
    /// Things within the thing.
    Rows(Vec<Row>),
    /// Names and values within the thing.
    Fields(Row),
}

/// One thing: its cells in the order in which they are printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row(Vec<(String, Cell)>);

impl Row {
    /// No cells.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a number.
    pub(crate) fn count(self, name: impl Into<String>, value: u64) -> Self {
        self.with(name, Cell::Count(value))
    }

    /// Adds a text.
    pub(crate) fn text(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.with(name, Cell::Text(value.into()))
    }

    /// Adds a time in microseconds since 1970 UTC; 0 is none.
    pub(crate) fn time(self, name: impl Into<String>, value: u64) -> Self {
        self.with(name, Cell::Time(value))
    }

    /// Adds a yes or no.
    pub(crate) fn flag(self, name: impl Into<String>, value: bool) -> Self {
        self.with(name, Cell::Flag(value))
    }

    /// Adds a list of things.
    pub(crate) fn rows(self, name: impl Into<String>, rows: Vec<Self>) -> Self {
        self.with(name, Cell::Rows(rows))
    }

    /// Adds names and values of their own.
    pub(crate) fn fields(self, name: impl Into<String>, fields: Self) -> Self {
        self.with(name, Cell::Fields(fields))
    }

    fn with(mut self, name: impl Into<String>, cell: Cell) -> Self {
        self.0.push((name.into(), cell));
        self
    }
}

impl Cell {
    fn is_right_aligned(&self) -> bool {
        matches!(self, Self::Count(_))
    }

    fn show(&self) -> String {
        match self {
            Self::Count(number) => number.to_string(),
            Self::Text(text) => text.clone(),
            Self::Time(0) => "-".to_owned(),
            Self::Time(time) => format_time(*time),
            Self::Flag(flag) => if *flag { "yes" } else { "no" }.to_owned(),
            Self::Rows(rows) => rows.len().to_string(),
            Self::Fields(fields) => fields.0.len().to_string(),
        }
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, cell) in &self.0 {
            map.serialize_entry(name, cell)?;
        }
        map.end()
    }
}

impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(number) => serializer.serialize_u64(*number),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Time(0) => serializer.serialize_none(),
            Self::Time(time) => serializer.serialize_str(&format_time(*time)),
            Self::Flag(flag) => serializer.serialize_bool(*flag),
            Self::Rows(rows) => rows.serialize(serializer),
            Self::Fields(fields) => fields.serialize(serializer),
        }
    }
}

/// Prints one thing.
pub(crate) fn print_one(format: Format, row: &Row, out: &mut impl Write) -> io::Result<()> {
    let text = match format {
        Format::Table => describe(row),
        Format::Raw => row
            .0
            .iter()
            .fold(String::new(), |text, cell| text + &raw_lines(cell)),
        Format::Json | Format::Ndjson => json_line(row)?,
    };
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Prints a list of things.
pub(crate) fn print_list(format: Format, rows: &[Row], out: &mut impl Write) -> io::Result<()> {
    match format {
        Format::Table => out.write_all(columns(rows, "").as_bytes())?,
        Format::Raw => {
            for (_, cell) in rows.iter().filter_map(|row| row.0.first()) {
                writeln!(out, "{}", cell.show())?;
            }
        }
        Format::Json => {
            serde_json::to_writer(&mut *out, rows)?;
            writeln!(out)?;
        }
        Format::Ndjson => {
            for row in rows {
                out.write_all(json_line(row)?.as_bytes())?;
            }
        }
    }
    out.flush()
}

fn json_line(row: &Row) -> io::Result<String> {
    Ok(serde_json::to_string(row)? + "\n")
}

fn raw_lines((name, cell): &(String, Cell)) -> String {
    match cell {
        Cell::Rows(rows) => rows.iter().fold(String::new(), |text, row| {
            let cells: Vec<_> = row
                .0
                .iter()
                .map(|(name, cell)| format!("{name}={}", cell.show()))
                .collect();
            text + name + " " + &cells.join(" ") + "\n"
        }),
        Cell::Fields(fields) => fields.0.iter().fold(String::new(), |text, (inner, cell)| {
            text + &format!("{name}.{inner}={}\n", cell.show())
        }),
        cell => format!("{name}={}\n", cell.show()),
    }
}

/// `name  value` lines; lists follow below, indented.
fn describe(row: &Row) -> String {
    let width = row
        .0
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for (name, cell) in &row.0 {
        let shown = cell.show();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:width$}  {shown}");
    }
    for (name, cell) in &row.0 {
        let below = match cell {
            Cell::Rows(rows) => columns(rows, "  "),
            Cell::Fields(fields) => describe(fields)
                .lines()
                .fold(String::new(), |text, line| text + "  " + line + "\n"),
            _ => continue,
        };
        if !below.is_empty() {
            let _ = write!(text, "\n{name}\n{below}");
        }
    }
    text
}

/// Columns under a heading; no rows, no heading.
fn columns(rows: &[Row], indent: &str) -> String {
    let Some(first) = rows.first() else {
        return String::new();
    };
    let mut lines: Vec<Vec<String>> = vec![
        first
            .0
            .iter()
            .map(|(name, _)| name.to_uppercase())
            .collect(),
    ];
    lines.extend(
        rows.iter()
            .map(|row| row.0.iter().map(|(_, cell)| cell.show()).collect()),
    );
    let width = |at: usize| {
        let cells = lines.iter().filter_map(|line| line.get(at));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..first.0.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let mut shown = String::from(indent);
        for ((cell, &width), (_, kind)) in line.iter().zip(&widths).zip(&first.0) {
            let _ = if kind.is_right_aligned() {
                write!(shown, "{cell:>width$}  ")
            } else {
                write!(shown, "{cell:width$}  ")
            };
        }
        text.push_str(shown.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics() -> Vec<Row> {
        let topic = |name, records| Row::new().text("name", name).count("records", records);
        vec![topic("app", 12), topic("a-long-name", 3)]
    }

    fn described() -> Row {
        Row::new()
            .text("name", "app")
            .time("created", 1_500_000)
            .time("last", 0)
            .flag("open", true)
            .rows("consumers", topics())
    }

    fn check_list(format: Format, expected: &str) {
        let mut out = Vec::new();
        print_list(format, &topics(), &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected, "{format:?}");
    }

    fn check_one(format: Format, expected: &str) {
        let mut out = Vec::new();
        print_one(format, &described(), &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected, "{format:?}");
    }

    #[test]
    fn a_list_has_four_forms() {
        check_list(
            Format::Table,
            "NAME         RECORDS\napp               12\na-long-name        3\n",
        );
        check_list(Format::Raw, "app\na-long-name\n");
        check_list(
            Format::Json,
            "[{\"name\":\"app\",\"records\":12},{\"name\":\"a-long-name\",\"records\":3}]\n",
        );
        check_list(
            Format::Ndjson,
            "{\"name\":\"app\",\"records\":12}\n{\"name\":\"a-long-name\",\"records\":3}\n",
        );
    }

    #[test]
    fn one_thing_has_four_forms() {
        check_one(
            Format::Table,
            "name       app\ncreated    1970-01-01T00:00:01.500000Z\nlast       -\nopen       yes\n\
             consumers  2\n\nconsumers\n  NAME         RECORDS\n  app               12\n  a-long-name        3\n",
        );
        check_one(
            Format::Raw,
            "name=app\ncreated=1970-01-01T00:00:01.500000Z\nlast=-\nopen=yes\n\
             consumers name=app records=12\nconsumers name=a-long-name records=3\n",
        );
        let json = "{\"name\":\"app\",\"created\":\"1970-01-01T00:00:01.500000Z\",\"last\":null,\
                    \"open\":true,\"consumers\":[{\"name\":\"app\",\"records\":12},\
                    {\"name\":\"a-long-name\",\"records\":3}]}\n";
        check_one(Format::Json, json);
        check_one(Format::Ndjson, json);
    }

    #[test]
    fn an_empty_list_is_empty_in_every_form() {
        for (format, expected) in [
            (Format::Table, ""),
            (Format::Raw, ""),
            (Format::Json, "[]\n"),
            (Format::Ndjson, ""),
        ] {
            let mut out = Vec::new();
            print_list(format, &[], &mut out).unwrap();
            assert_eq!(out, expected.as_bytes(), "{format:?}");
        }
    }
}
