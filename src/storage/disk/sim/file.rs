//! An open file of the simulated disk.
//!
//! Owns a share in the file's being open, and the faults of single calls on it; the content is the
//! disk's. Its neighbours: [`SimDisk`], and [`Content`](super::content::Content) for what the calls
//! do.

use std::io;

use rustix::io::Errno;

use super::super::DiskFile;
use super::names::FileId;
use super::{Call, SimDisk};

/// An open file of a [`SimDisk`].
#[derive(Debug)]
pub(super) struct SimFile {
    disk: SimDisk,
    file: FileId,
}

impl SimFile {
    /// A handle that the disk has counted already; it is uncounted on drop.
    pub(super) fn new(disk: SimDisk, file: FileId) -> Self {
        Self { disk, file }
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        let mut state = self.disk.state();
        state.begin_whole(Call::Len)?;
        Ok(state.file(self.file)?.len() as u64)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        state.begin_whole(Call::ReadAt)?;
        state.file(self.file)?.read(offset, out)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        let fails = state.begin_on(Call::WriteAt, self.file)?;
        let (room, at) = (state.free(), state.order);
        let content = state.content(self.file)?;
        if let Some(fault) = fails {
            content.write(at, offset, &bytes[..bytes.len() / 2], room)?;
            return Err(fault.into());
        }
        let written = content.write(at, offset, bytes, room)?;
        if written < bytes.len() {
            Err(Errno::NOSPC.into())
        } else {
            Ok(())
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let fails = state.begin_on(Call::SetLen, self.file)?;
        let (happens, answer) = state.unsure(fails);
        if happens {
            let at = state.order;
            state.content(self.file)?.set_len(at, len)?;
        }
        answer
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let fails = state.begin_on(Call::Sync, self.file)?;
        if fails.is_none() && state.lies() {
            return Ok(());
        }
        let content = state.content(self.file)?;
        if let Some(fault) = fails {
            content.fail_sync();
            return Err(fault.into());
        }
        content.sync();
        Ok(())
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if let Some(handles) = state.handles.get_mut(&self.file) {
            *handles -= 1;
            if *handles == 0 {
                state.handles.remove(&self.file);
            }
        }
        state.sweep();
    }
}
