//! The first bytes of a segment's file, as redb writes them (file format 3 of redb).
//!
//! Where the last commit of a file is not whole, redb goes on with the one before. That is right
//! where a power cut may have torn it. It is not where the file was closed after it, and whoever
//! looks for damage wants to know. So the commit before is taken away from a *view* of the file.
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
//!              bit 1: needs a repair
//! ```

use std::io;

use redb::StorageBackend;

use super::disk::Disk;
use super::overlay::Overlay;

const GOD_BYTE: u64 = 9;
const PRIMARY: u8 = 1;
const NEEDS_REPAIR: u8 = 2;
const SLOTS: u64 = 64;
const SLOT_BYTES: u64 = 128;
/// Within a slot.
const CHECKSUM: u64 = 112;
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
    let mut god = [0];
    view.read(GOD_BYTE, &mut god)?;
    let [god] = god;
    if god & NEEDS_REPAIR == 0 || trust == Trust::LastAlone {
        let other = u64::from(god & PRIMARY == 0);
        let at = SLOTS + other * SLOT_BYTES + CHECKSUM;
        let mut checksum = [0; CHECKSUM_BYTES];
        view.read(at, &mut checksum)?;
        view.write(at, &checksum.map(|byte| !byte))?;
    }
    Ok(())
}
