//! What must hold of the broker whatever bytes come: one function for each fuzz target.
//!
//! Each takes arbitrary bytes and panics where a promise is broken. `fuzz/` calls them with
//! libFuzzer, the tests below with the kept corpus and with random changes of it. What a program
//! may send is tried in the crate of the protocol; here are lines that people type, and rows from
//! the disk. Nothing here is part of a build that is neither.

use logdrive_protocol::TopicId;

use crate::connection;
use crate::storage;
use crate::topic::state::State;

/// A text session: every line is a command or one line that says what is wrong.
pub fn text(bytes: &[u8]) {
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Err(said) = connection::understand(line) {
            assert!(said.starts_with("- ") && said.ends_with('\n'), "{said:?}");
            assert_eq!(said.lines().count(), 1, "{said:?}");
        }
    }
}

/// The journal's entries.
pub fn journal(bytes: &[u8]) {
    storage::fuzzing::journal(bytes);
}

/// Rows of segments.
pub fn segment_rows(bytes: &[u8]) {
    storage::fuzzing::segment_rows(bytes);
}

/// State rows of one topic: it is taken up and serves, or is refused with what is wrong.
///
/// ```text
/// key length (1) | value length (2) | key | value | the next row
/// ```
pub fn topic_rows(bytes: &[u8]) {
    let mut rows = Vec::new();
    let mut rest = bytes;
    while let Some(([key, high, low], more)) = rest.split_first_chunk() {
        let (key, value) = (
            usize::from(*key),
            usize::from(u16::from_be_bytes([*high, *low])),
        );
        let (Some(row), Some(next)) = (more.get(..key + value), more.get(key + value..)) else {
            break;
        };
        rows.push((row[..key].to_vec(), row[key..].to_vec()));
        rest = next;
    }
    // As they stand on disk.
    rows.sort();
    rows.dedup_by(|one, other| one.0 == other.0);
    let Ok(mut state) = State::load(TopicId(7), &rows) else {
        return;
    };
    state.begin_consumers(1_000);
    let _ = state.summary();
    let described = state.describe("", 10);
    for consumer in described.consumers {
        let _ = state.size(consumer.consumer);
    }
    let _ = state.gaps(0);
}

#[cfg(test)]
#[path = "../fuzz/trial.rs"]
mod trial;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_breaks_a_text_session() {
        trial::check("text", 2_000, text);
    }

    #[test]
    fn no_bytes_break_the_reading_of_the_journal() {
        trial::check("journal", 2_000, journal);
    }

    #[test]
    fn no_bytes_break_the_rows_of_a_segment() {
        trial::check("segment_rows", 2_000, segment_rows);
    }

    #[test]
    fn no_bytes_break_the_state_of_a_topic() {
        trial::check("topic_rows", 2_000, topic_rows);
    }
}
