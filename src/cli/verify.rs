//! `logdrive verify`: everything in a data directory is read, and what is damaged is named.
//!
//! Owns how findings are shown. It talks to no broker, and changes nothing.

use std::io::{self, Write, stdout};

use super::args::{Common, Verify};
use super::exit::{Exit, Fault};
use super::output::{Format, Row, print_one};
use super::progress::Progress;
use crate::storage::disk::{OpenDiskError, RealDisk};
use crate::storage::{self, Finding, Grade, Options, Told, Verified};
use crate::topic::stored;

/// Runs the command; what was found decides the exit code.
pub(crate) fn run(common: &Common, arguments: &Verify) -> Result<Exit, Fault> {
    let disk = RealDisk::inspect(&arguments.directory).map_err(|error| refused(&error))?;
    let directory = arguments.directory.display();
    let is_store = storage::holds_store(&disk).map_err(|error| {
        Fault::new(
            Exit::Failed,
            format_args!("cannot list {directory}: {error}"),
        )
    })?;
    if !is_store {
        let message = format!("{directory} holds no store");
        return Err(Fault::new(Exit::NotFound, message)
            .hint("name the directory that was given to: logdrive serve --data DIR"));
    }
    let mut shown = Shown {
        format: common.output.unwrap_or(Format::Table),
        progress: Progress::new(None, "bytes"),
        findings: Vec::new(),
        failed: None,
    };
    let verified = storage::verify(&disk, &Options::default(), stored::logs, &mut |told| {
        shown.tell(told);
    })
    .map_err(|error| Fault::new(Exit::Failed, error))?;
    shown
        .end(&verified)
        .map_err(|error| Fault::stdout(&error))?;
    Ok(exit_of(&verified))
}

fn refused(error: &OpenDiskError) -> Fault {
    match error {
        OpenDiskError::InUse { .. } => Fault::new(Exit::Failed, error)
            .hint("or verify a copy of it that was made while no broker ran"),
        OpenDiskError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            Fault::new(Exit::NotFound, error)
        }
        OpenDiskError::Io { .. } => Fault::new(Exit::Failed, error),
    }
}

fn count(verified: &Verified, grade: Grade) -> u64 {
    verified.findings[grade as usize]
}

fn exit_of(verified: &Verified) -> Exit {
    if count(verified, Grade::Damaged) + count(verified, Grade::Doubtful) > 0 {
        Exit::Damaged
    } else if count(verified, Grade::Unread) > 0 {
        Exit::Failed
    } else {
        Exit::Done
    }
}

fn word(grade: Grade) -> &'static str {
    match grade {
        Grade::Damaged => "damaged",
        Grade::Doubtful => "doubtful",
        Grade::Unread => "unread",
        Grade::Remark => "remark",
    }
}

/// What was found so far, in the form that was asked for.
struct Shown {
    format: Format,
    progress: Progress,
    /// Kept where they are printed within one document.
    findings: Vec<Row>,
    /// Why a line could not be printed.
    failed: Option<io::Error>,
}

impl Shown {
    fn tell(&mut self, told: Told<'_>) {
        match told {
            Told::Total(bytes) => self.progress.expect(bytes),
            Told::Read(bytes) => self.progress.set(bytes),
            Told::Found(finding) => {
                let printed = match self.format {
                    Format::Json => {
                        self.findings.push(row(finding));
                        Ok(())
                    }
                    Format::Ndjson => self
                        .progress
                        .aside(|| print_one(Format::Ndjson, &row(finding), &mut stdout().lock())),
                    Format::Table | Format::Raw => {
                        (self.progress).aside(|| writeln!(stdout().lock(), "{}", line(finding)))
                    }
                };
                if let Err(error) = printed {
                    self.failed.get_or_insert(error);
                }
            }
        }
    }

    /// Prints what was read in all.
    fn end(self, verified: &Verified) -> io::Result<()> {
        drop(self.progress);
        if let Some(error) = self.failed {
            return Err(error);
        }
        let mut summary = summary(verified);
        match self.format {
            Format::Raw => return Ok(()),
            Format::Json => summary = summary.rows("findings", self.findings),
            Format::Table | Format::Ndjson => {}
        }
        print_one(self.format, &summary, &mut stdout().lock())
    }
}

fn summary(verified: &Verified) -> Row {
    let verdict = match exit_of(verified) {
        Exit::Done => "whole",
        Exit::Failed => "unread",
        _ if count(verified, Grade::Damaged) == 0 => "doubtful",
        _ => "damaged",
    };
    let all = Row::new()
        .text("verdict", verdict)
        .count("segments", verified.segments)
        .count("bytes", verified.bytes)
        .count("logs", verified.logs)
        .count("batches", verified.batches)
        .count("records", verified.records);
    let grades = [
        Grade::Damaged,
        Grade::Doubtful,
        Grade::Unread,
        Grade::Remark,
    ];
    grades.into_iter().fold(all, |row, grade| {
        row.count(word(grade), count(verified, grade))
    })
}

fn row(finding: &Finding) -> Row {
    let row = Row::new()
        .text("grade", word(finding.grade))
        .text("file", &finding.file)
        .text("topic", &finding.topic);
    let row = match finding.records {
        Some((from, to)) => row.count("from", from).count("to", to),
        None => row,
    };
    row.text("what", &finding.what)
}

/// `damaged  00000000000000000003.redb  topic app  records 120 to 179: what`.
fn line(finding: &Finding) -> String {
    let mut words = vec![word(finding.grade).to_owned()];
    if !finding.file.is_empty() {
        words.push(finding.file.clone());
    }
    if !finding.topic.is_empty() {
        words.push(format!("topic {}", finding.topic));
    }
    if let Some((from, to)) = finding.records {
        words.push(format!(
            "records {from} to {}",
            to.saturating_sub(1).max(from)
        ));
    }
    format!("{}: {}", words.join("  "), finding.what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(records: Option<(u64, u64)>, topic: &str, expected: &str) {
        let finding = Finding {
            grade: Grade::Damaged,
            file: "3.redb".to_owned(),
            topic: topic.to_owned(),
            records,
            what: "it is gone".to_owned(),
        };
        assert_eq!(line(&finding), expected);
    }

    #[test]
    fn a_finding_is_a_line() {
        let expected = "damaged  3.redb  topic app  records 5 to 9: it is gone";
        check(Some((5, 10)), "app", expected);
        check(None, "app", "damaged  3.redb  topic app: it is gone");
        check(None, "", "damaged  3.redb: it is gone");
    }

    #[test]
    fn what_was_found_decides_how_it_ends() {
        let of = |findings| {
            exit_of(&Verified {
                findings,
                ..Verified::default()
            })
        };
        assert_eq!(of([0, 0, 0, 0]), Exit::Done);
        assert_eq!(of([0, 0, 0, 5]), Exit::Done);
        assert_eq!(of([0, 0, 1, 0]), Exit::Failed);
        assert_eq!(of([0, 1, 1, 0]), Exit::Damaged);
        assert_eq!(of([1, 0, 0, 0]), Exit::Damaged);
    }
}
