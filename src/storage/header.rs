//! The first bytes of a segment's file, as redb writes them (file format 3 of redb).
//!
//! Where the last commit of a file is not whole, redb goes on with the one before. That is right
//! where a power cut may have torn it. It is not where the file was closed after it, and whoever
//! looks for damage wants to know. So the commit before is taken away from a *view* of the file.
//!
//! And where its pages are damaged redb opens nothing that it must repair first. A view that says of
//! itself that it was [closed](as_closed) can be read all the same, page by page, unchecked.
//!
//! Owns the places of these bytes. It never writes a file. Its neighbours: the
//! [segment](super::segment) opens such views, `verify` asks how a file was left.
//!
//! ```text
//!   0        9          10                   64              192             320
//!   +--------+----------+--------------------+---------------+---------------+
//!   | magic  | god byte | sizes of regions   | commit slot 0 | commit slot 1 |
//!   +--------+----------+--------------------+---------------+---------------+
//!              bit 0: which slot is the last commit     | 104 bytes | id u64 | checksum 16 |
//!              bit 1: needs a repair                    '-- 1 | has tables | 0 (6) | root 32 | ...
//!
//!   sizes: 0 (2) | bytes of a page u32 | pages of a region's head u32 | pages of a region u32 |
//!          full regions u32 | pages of the last one u32 | ...
//! ```

use std::io;

use redb::StorageBackend;
use twox_hash::XxHash3_128;

use super::disk::Disk;
use super::overlay::Overlay;
use super::segment::SegmentError;

const GOD_BYTE: u64 = 9;
const PRIMARY: u8 = 1;
const NEEDS_REPAIR: u8 = 2;
const SIZES: u64 = 12;
/// No segment is nearly as long; a damaged head may say anything.
const MAX_FILE_BYTES: u64 = 64 << 30;
/// Bytes of a page of order 0, as redb always has them.
pub(super) const PAGE_BYTES: u32 = 4096;
const SLOTS: u64 = 64;
const SLOT_BYTES: usize = 128;
/// Within a slot.
const HAS_TABLES: usize = 1;
const TABLES: usize = 8;
const ROOT_BYTES: usize = 32;
const COMMIT_ID: usize = 104;
const CHECKSUM: usize = 112;
const CHECKSUM_BYTES: usize = 16;

/// What a view may go on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// The last commit; and the one before it where the file was left in the middle of a commit, as
    /// a power cut may.
    LastWhole,
    /// The last commit alone.
    LastAlone,
}

/// Whether a file was closed cleanly.
pub(super) fn is_clean(disk: &dyn Disk, name: &str) -> io::Result<bool> {
    let mut god = [0];
    disk.open(name)?.read_at(GOD_BYTE, &mut god)?;
    Ok(god[0] & NEEDS_REPAIR == 0)
}

/// Leaves a view with what is trusted.
pub(super) fn restrict(view: &Overlay, trust: Trust) -> io::Result<()> {
    let god = god_byte(view)?;
    if god & NEEDS_REPAIR == 0 || trust == Trust::LastAlone {
        let at = slot_at(god & PRIMARY ^ PRIMARY) + CHECKSUM as u64;
        let mut checksum = [0; CHECKSUM_BYTES];
        view.read(at, &mut checksum)?;
        view.write(at, &checksum.map(|byte| !byte))?;
    }
    Ok(())
}

/// Lets a view say that it was closed after its last commit, whatever has become of its pages. Those
/// that the file has lost are zeros: an error of the disk would end the handle for all other reads.
///
/// # Errors
/// One of the two commits is not whole in itself: then it cannot be said which one is the last.
pub(super) fn as_closed(view: &Overlay) -> Result<(), SegmentError> {
    let ids = (commit_id(&slot(view, 0)?), commit_id(&slot(view, PRIMARY)?));
    let newest = if ids.1 > ids.0 { PRIMARY } else { 0 };
    // Without any other bit: one of them lets redb read the other commit.
    view.write(GOD_BYTE, &[newest])?;
    let whole = file_bytes(view)?;
    if view.len()? < whole && whole <= MAX_FILE_BYTES {
        view.set_len(whole)?;
    }
    Ok(())
}

/// The five sizes, as the file has them.
fn sizes(view: &Overlay) -> io::Result<[u32; 5]> {
    let mut bytes = [0; 20];
    view.read(SIZES, &mut bytes)?;
    let (words, _) = bytes.as_chunks();
    Ok(std::array::from_fn(|at| u32::from_le_bytes(words[at])))
}

/// How long the file says that it is.
fn file_bytes(view: &Overlay) -> io::Result<u64> {
    let [_, head, pages, full, rest] = sizes(view)?.map(u64::from);
    let last = if rest == 0 { 0 } else { head + rest };
    let pages = full.saturating_mul(head + pages).saturating_add(1 + last);
    Ok(pages.saturating_mul(u64::from(PAGE_BYTES)))
}

/// Where pages are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    region_head: u32,
    region_pages: u32,
}

impl Geometry {
    /// Of the first page of a region; where the sizes are damaged, perhaps beyond any file.
    pub(super) fn first_byte(self, region: u64) -> u64 {
        let head = u64::from(self.region_head);
        let before = region.saturating_mul(head + u64::from(self.region_pages));
        let pages = before.saturating_add(1 + head);
        pages.saturating_mul(u64::from(PAGE_BYTES))
    }
}

/// Where pages are, and the root of the list of tables in the last commit; `None` if there is no
/// table.
pub(super) fn last_commit(
    view: &Overlay,
) -> Result<(Geometry, Option<[u8; ROOT_BYTES]>), SegmentError> {
    let [page_bytes, region_head, region_pages, ..] = sizes(view)?;
    if page_bytes != PAGE_BYTES {
        let what = format!("its head is damaged: pages of {page_bytes} bytes");
        return Err(SegmentError::Unreadable(what));
    }
    let geometry = Geometry {
        region_head,
        region_pages,
    };
    let slot = slot(view, god_byte(view)? & PRIMARY)?;
    let mut tables = [0; ROOT_BYTES];
    tables.copy_from_slice(&slot[TABLES..TABLES + ROOT_BYTES]);
    Ok((geometry, (slot[HAS_TABLES] != 0).then_some(tables)))
}

fn god_byte(view: &Overlay) -> io::Result<u8> {
    let mut god = [0];
    view.read(GOD_BYTE, &mut god)?;
    Ok(god[0])
}

fn slot_at(which: u8) -> u64 {
    SLOTS + u64::from(which) * SLOT_BYTES as u64
}

/// A commit slot that is whole.
fn slot(view: &Overlay, which: u8) -> Result<[u8; SLOT_BYTES], SegmentError> {
    let mut slot = [0; SLOT_BYTES];
    view.read(slot_at(which), &mut slot)?;
    let sum = XxHash3_128::oneshot(&slot[..CHECKSUM]).to_le_bytes();
    (sum == slot[CHECKSUM..])
        .then_some(slot)
        .ok_or_else(no_commit)
}

/// Commits are numbered in their order.
fn commit_id(slot: &[u8; SLOT_BYTES]) -> u64 {
    let mut id = [0; 8];
    id.copy_from_slice(&slot[COMMIT_ID..CHECKSUM]);
    u64::from_le_bytes(id)
}

fn no_commit() -> SegmentError {
    SegmentError::Unreadable("its last commit is damaged".into())
}
