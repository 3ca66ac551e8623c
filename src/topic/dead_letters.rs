//! Dead letters: records that were given up, in a topic of their own.
//!
//! ```text
//!   record of the topic      dead letter
//!   timestamp, severity  ->  the same
//!   key, value           ->  the same
//!   headers              ->  the same, and behind them logdrive.topic, .consumer, .offset,
//!                            .append_time, .deliveries, .reason
//! ```
//!
//! Pure. Its neighbours: `giving_up` writes them, [`requeue`](super::requeue)
//! reads them.

use logdrive_protocol::batch::{NewRecord, RecordView};

/// What all headers of ours begin with.
const PREFIX: &str = "logdrive.";
const TOPIC: &str = "logdrive.topic";
const CONSUMER: &str = "logdrive.consumer";
const OFFSET: &str = "logdrive.offset";
const APPEND_TIME: &str = "logdrive.append_time";
const DELIVERIES: &str = "logdrive.deliveries";
const REASON: &str = "logdrive.reason";

/// Where a dead letter comes from, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grave {
    /// Name of the topic that it was in.
    pub topic: String,
    /// Name of the consumer that gave it up.
    pub consumer: String,
    /// Its offset there.
    pub offset: u64,
    /// When it was appended there, in microseconds.
    pub append_time: u64,
    /// How often it was delivered.
    pub deliveries: u32,
    /// Why it was given up.
    pub reason: String,
}

impl Grave {
    /// The headers of the dead letter of a record.
    pub fn headers(&self, record: &RecordView<'_>) -> Vec<(String, Vec<u8>)> {
        let number = |value: u64| value.to_string().into_bytes();
        let ours = [
            (TOPIC, self.topic.clone().into_bytes()),
            (CONSUMER, self.consumer.clone().into_bytes()),
            (OFFSET, number(self.offset)),
            (APPEND_TIME, number(self.append_time)),
            (DELIVERIES, number(u64::from(self.deliveries))),
            (REASON, self.reason.clone().into_bytes()),
        ];
        let ours = ours.map(|(name, value)| (name.to_owned(), value));
        own_headers(record).into_iter().chain(ours).collect()
    }

    /// What the headers of a record say; `None` if it is no dead letter.
    pub fn of(record: &RecordView<'_>) -> Option<Self> {
        let text = |wanted: &str| {
            // The last one counts: a record may have been given up before.
            let mut headers = record.headers.clone();
            let found = headers
                .by_ref()
                .filter(|(name, _)| *name == wanted.as_bytes());
            let (_, value) = found.last()?;
            String::from_utf8(value.to_vec()).ok()
        };
        let number = |wanted: &str| text(wanted)?.parse::<u64>().ok();
        Some(Self {
            topic: text(TOPIC)?,
            consumer: text(CONSUMER)?,
            offset: number(OFFSET)?,
            append_time: number(APPEND_TIME)?,
            deliveries: u32::try_from(number(DELIVERIES)?).ok()?,
            reason: text(REASON)?,
        })
    }
}

/// The headers that the record had before it was given up.
fn own_headers(record: &RecordView<'_>) -> Vec<(String, Vec<u8>)> {
    let headers = record.headers.clone();
    let own = headers.filter(|(name, _)| !name.starts_with(PREFIX.as_bytes()));
    own.map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), value.to_vec()))
        .collect()
}

/// The record that a dead letter was made of; `headers` is room for its headers.
pub fn original<'a>(
    record: &RecordView<'a>,
    timestamp: u64,
    headers: &'a mut Vec<(String, Vec<u8>)>,
) -> NewRecord<'a> {
    *headers = own_headers(record);
    NewRecord {
        timestamp,
        severity: record.severity,
        key: record.key,
        headers,
        value: record.value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logdrive_protocol::batch::{BatchBuilder, Head, Origin, Records};

    #[test]
    fn a_dead_letter_says_where_it_comes_from_and_gives_the_record_back() {
        let grave = Grave {
            topic: "app".into(),
            consumer: "c1".into(),
            offset: 7,
            append_time: 50,
            deliveries: 3,
            reason: "delivered 3 times".into(),
        };
        let headers = [("host".to_owned(), b"web-1".to_vec())];
        let record = NewRecord {
            timestamp: 9,
            severity: 13,
            key: Some(b"k"),
            headers: &headers,
            value: b"bad",
        };
        let mut builder = BatchBuilder::default();
        builder.push(&record);
        let batch = builder.finish(Origin::default());
        let view = Records::of(&batch).flatten().next().unwrap();
        assert_eq!(Grave::of(&view), None, "no dead letter yet");
        let with_grave = grave.headers(&view);
        builder.push(&NewRecord {
            headers: &with_grave,
            ..record
        });
        let letter = builder.finish(Origin::default());
        let view = Records::of(&letter).flatten().next().unwrap();
        assert_eq!(Grave::of(&view), Some(grave));
        let mut room = Vec::new();
        builder.push(&original(&view, 9, &mut room));
        let back = builder.finish(Origin::default());
        let crc = |batch: &[u8]| Head::parse(batch).unwrap().producer_crc;
        assert_eq!(crc(&back), crc(&batch));
    }
}
