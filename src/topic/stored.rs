//! What the rows of all topics say of their logs, for whoever looks at a store without a broker.
//!
//! Pure. Its neighbours: [`rows`] decodes, [`State`] takes rows up as a start
//! does, and the storage's `verify` compares what is said here with what is stored.

use logdrive_protocol::TopicId;

use super::delayed::delay_log;
use super::rows::{self, Decoded};
use super::state::State;
use crate::storage::{Log, Rows, Totals};

/// The logs of all topics, those of delayed records included; a text where a topic could not be
/// taken up.
pub fn logs(stored: &Rows) -> Vec<Result<Log, String>> {
    let topics = stored.iter().filter(|(id, _)| !id.is_none());
    topics.flat_map(|(id, rows)| of_topic(*id, rows)).collect()
}

fn of_topic(id: TopicId, stored: &[(Vec<u8>, Vec<u8>)]) -> Vec<Result<Log, String>> {
    let state = match State::load(id, stored) {
        Ok(state) => state,
        Err(error) => return vec![Err(format!("topic {id} cannot be taken up: {error}"))],
    };
    let decoded = stored
        .iter()
        .filter_map(|(key, value)| rows::decode(key, value).ok());
    let logs = decoded.filter_map(|row| match row {
        Decoded::Extent(row) => Some(Log {
            topic: id,
            name: state.name().to_owned(),
            start: row.start,
            end: row.end,
            totals: Totals {
                records: row.end_records,
                bytes: row.end_bytes,
            },
            digest: row.digest,
        }),
        Decoded::DelayLog(row) => Some(Log {
            topic: delay_log(id),
            name: format!("{} (delayed)", state.name()),
            start: row.start,
            end: row.end,
            totals: Totals {
                records: row.end_records,
                bytes: row.end_bytes,
            },
            digest: row.digest,
        }),
        _ => None,
    });
    logs.map(Ok).collect()
}
