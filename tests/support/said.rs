//! Answers as short texts, so that a test compares what it expects with what was said.

use logdrive_protocol::Failure;
use logdrive_protocol::operations::{
    Acked, CancelPassed, ConsumerAltered, ConsumerRegistered, ConsumerUnregistered, Delivered,
    Extended, Located, Measured, Nacked, Produced, ProducedAll, ProducerRegistered,
    ProducerUnregistered, Requeued, Sought, TopicCreated, TopicDeleted, TopicsListed,
};

/// An answer that can be said in a few words. Ids and times are left out.
pub(crate) trait Said {
    /// The words.
    fn said(&self) -> String;
}

/// An answer in a few words, or the error's code with its number, if it has one.
pub(crate) fn said<A: Said>(answer: Result<A, Failure>) -> String {
    match answer {
        Ok(answer) => answer.said(),
        Err(failure) if failure.first > 0 => format!("{} {}", failure.code, failure.first),
        Err(failure) => failure.code.to_string(),
    }
}

impl Said for Delivered {
    /// `0:a 1:b next=2`, `empty next=2`, `held next=2` or `passed next=2`; a record that was
    /// delivered before says so: `0:a(1)`.
    fn said(&self) -> String {
        let mut words: Vec<String> = self
            .gaps
            .iter()
            .map(|gap| format!("gap {}..{}", gap.from, gap.to))
            .collect();
        if self.status == Self::EMPTY {
            words.push("empty".to_owned());
        }
        if self.status == Self::HELD {
            words.push("held".to_owned());
        }
        if self.status == Self::PASSED {
            words.push("passed".to_owned());
        }
        let value = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut plain = self.clone();
        plain.unpack().unwrap();
        words.extend(plain.records().map(|it| {
            let again = match it.deliveries {
                0 => String::new(),
                times => format!("({times})"),
            };
            format!("{}:{}{again}", it.offset, value(it.record.value))
        }));
        words.push(format!("next={}", self.next));
        words.join(" ")
    }
}

impl Said for Acked {
    fn said(&self) -> String {
        format!("acked={}", self.records)
    }
}

impl Said for Nacked {
    fn said(&self) -> String {
        format!("nacked={}", self.records)
    }
}

impl Said for Requeued {
    fn said(&self) -> String {
        format!("requeued={}", self.records)
    }
}

impl Said for ConsumerAltered {
    fn said(&self) -> String {
        if self.paused { "paused" } else { "goes on" }.to_owned()
    }
}

impl Said for Produced {
    fn said(&self) -> String {
        let durability = ["synced", "accepted", "scheduled"][usize::from(self.durability)];
        format!("offset={} {durability}", self.base_offset)
    }
}

impl Said for ProducedAll {
    /// The offsets, in the order of the parts, and records that were acked.
    fn said(&self) -> String {
        let offsets: Vec<_> = self
            .parts
            .iter()
            .map(|it| it.base_offset.to_string())
            .collect();
        let acked = match self.acked {
            0 => String::new(),
            records => format!(" acked={records}"),
        };
        format!("offsets={}{acked}", offsets.join(","))
    }
}

impl Said for Measured {
    fn said(&self) -> String {
        let delayed = match self.delayed {
            0 => String::new(),
            records => format!(" delayed={records}"),
        };
        format!("records={} bytes={}{delayed}", self.records, self.bytes)
    }
}

impl Said for Sought {
    fn said(&self) -> String {
        format!("cursor={}", self.cursor)
    }
}

impl Said for ConsumerRegistered {
    fn said(&self) -> String {
        let created = if self.created { " created" } else { "" };
        format!("cursor={}{created}", self.cursor)
    }
}

impl Said for ProducerRegistered {
    fn said(&self) -> String {
        let created = if self.topic_created {
            " topic created"
        } else {
            ""
        };
        format!("epoch={} next={}{created}", self.epoch, self.next_sequence)
    }
}

impl Said for TopicCreated {
    fn said(&self) -> String {
        if self.created { "created" } else { "exists" }.to_owned()
    }
}

impl Said for TopicsListed {
    fn said(&self) -> String {
        let mut words: Vec<_> = self.topics.iter().map(|it| it.name.as_str()).collect();
        if self.more {
            words.push("...");
        }
        words.join(" ")
    }
}

impl Said for Located {
    fn said(&self) -> String {
        let known = |id: bool| if id { "known" } else { "unknown" };
        let topics = self.topics.iter();
        let words: Vec<_> = topics
            .map(|it| format!("{} {}", it.name, known(!it.id.is_none())))
            .collect();
        words.join(", ")
    }
}

macro_rules! done {
    ($($answer:ident)*) => {$(
        impl Said for $answer {
            fn said(&self) -> String {
                "done".to_owned()
            }
        }
    )*};
}
done! { Extended TopicDeleted ProducerUnregistered ConsumerUnregistered CancelPassed }
