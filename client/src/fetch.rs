//! Reading a topic.

use crate::{Error, Portion};

/// Reads a topic answer by answer; the next one is asked for while the last is used.
#[derive(Debug)]
pub struct Fetcher {}

impl Fetcher {
    /// The next records; `None` at the end. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<Portion>, Error> {
        todo!()
    }

    /// Where it ends, if it does: the high watermark of the start, or what was asked for.
    pub fn end_offset(&self) -> Option<u64> {
        todo!()
    }

    /// The offset of the next record.
    pub fn position(&self) -> u64 {
        todo!()
    }
}
