//! What must hold of bytes on disk that are not what this version wrote, though their checksum fits.
//!
//! Called by [`crate::fuzzing`] alone; part of no other build.

use super::flush::Flush;
use super::journal;
use super::layout::{self, Contents, Extent, FlushRow, RowHead, SEAL_BYTES};

/// The body of an entry of the journal: what is understood means the same when it is written again.
pub(crate) fn journal(bytes: &[u8]) {
    journal::look_at(bytes);
    if let Some(flush) = Flush::decode(bytes) {
        let (mut once, mut again) = (Vec::new(), Vec::new());
        flush.encode(&mut once);
        let decoded = Flush::decode(&once).map(|flush| flush.encode(&mut again));
        assert!(decoded.is_some(), "what was written cannot be read");
        assert_eq!(once, again);
    }
}

/// Rows of segments: a key of 16 bytes, and a value with the checksum made right.
pub(crate) fn segment_rows(bytes: &[u8]) {
    let Some((key, rest)) = bytes.split_first_chunk() else {
        return;
    };
    let mut value = [0; 72];
    let length = rest.len().min(value.len());
    value[..length].copy_from_slice(&rest[..length]);
    // Unsigned it is damage, or a row that was written.
    let _ = RowHead::decode(key, &value);
    value = RowHead::signed(key, value);
    let decoded = RowHead::decode(key, &value);
    let Ok(head) = decoded else {
        unreachable!("a row head whose checksum fits is refused");
    };
    let again = RowHead::decode(key, &head.encode(key));
    assert_eq!(again.ok(), Some(head));
    assert!(head.log_numbers().end >= head.log);

    let _ = layout::own_row(rest);
    let mut stored = vec![0; rest.len() + SEAL_BYTES];
    layout::seal(key, rest, &mut stored);
    let _ = Extent::decode(key, &stored);
    let _ = Contents::decode(rest);
    layout::seal(&FlushRow::key(), rest, &mut stored);
    let Ok(row) = FlushRow::decode(&stored) else {
        unreachable!("a row whose checksum fits is refused");
    };
    let value = row.encode();
    let mut stored = vec![0; value.len() + SEAL_BYTES];
    layout::seal(&FlushRow::key(), &value, &mut stored);
    assert_eq!(FlushRow::decode(&stored).ok(), Some(row));
}
