//! A back end whose writes stay in memory, for files that must not be written any more.
//!
//! redb repairs an unclean database by writing, and refuses to open one for reading only. A file
//! found after an unclean end must stay as it is, though: pages that the kernel calls clean may
//! never have reached the disk, and only what a read returns can be trusted. So redb repairs a
//! copy-on-write view:
//!
//! ```text
//!            page     0     1     2     3  |  4     5        a file of 4 pages and a bit
//!     memory          .     W     .     .  |  t     n        W written, t tail, n new
//!     base            b     -     b     b  |
//!                     whole pages: a bit   |  beyond `whole`:
//!                     says whose they are  |  always memory
//! ```
//!
//! The view owns its memory, and never writes, resizes or syncs the file below. Its neighbours:
//! redb above, a [`DiskFile`] below, [`Backend`](super::backend::Backend) beside it.

use std::fs::File;
use std::io;
use std::ops::Bound;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::{BackendError, StorageBackend};

use super::disk::DiskFile;

/// The unit in which the view takes content over from the file: redb's own page size, so that its
/// writes are whole pages and only those of its header need a copy first.
const PAGE: u64 = PAGE_BYTES as u64;
const PAGE_BYTES: usize = 4096;

/// A file with changes that exist in memory only, until it is dropped.
///
/// Takes no lock. Reads may run beside writes, and see each page either before or after a first
/// write to it. Two writes at once into the *same* page are not supported: redb flushes whole
/// pages, each once, and writes its header from the committing thread alone.
#[derive(Debug)]
pub struct Overlay {
    base: Arc<dyn DiskFile>,
    /// Sparse: holes read as zeros.
    memory: File,
    /// Length of the view in bytes.
    len: AtomicU64,
    /// Pages below this number may still be the file's; it falls when the view is cut shorter, and
    /// never rises.
    whole: AtomicU64,
    /// One bit for each whole page of the file: set when memory holds it. Set after the content is
    /// there (release), tested before it is read (acquire).
    taken: Box<[AtomicU64]>,
}

impl Overlay {
    /// A view of a file as it is now; nobody may write the file while the view lives.
    pub fn new(base: Arc<dyn DiskFile>) -> io::Result<Self> {
        let len = base.len()?;
        let memory = anonymous_file()?;
        memory.set_len(len)?;
        let whole = len / PAGE;
        let words = whole.div_ceil(u64::from(u64::BITS));
        let taken = (0..words).map(|_| AtomicU64::new(0)).collect();
        let tail = usize::try_from(len % PAGE).map_err(io::Error::other)?;
        if tail > 0 {
            let mut page = [0; PAGE_BYTES];
            base.read_at(whole * PAGE, &mut page[..tail])?;
            memory.write_all_at(&page[..tail], whole * PAGE)?;
        }
        Ok(Self {
            base,
            memory,
            len: AtomicU64::new(len),
            whole: AtomicU64::new(whole),
            taken,
        })
    }

    /// Whether a page's content is in memory.
    fn is_taken(&self, page: u64) -> bool {
        page >= self.whole.load(Ordering::Acquire) || {
            let (word, bit) = place(page);
            self.taken
                .get(word)
                .is_none_or(|word| word.load(Ordering::Acquire) & bit != 0)
        }
    }

    fn mark_taken(&self, page: u64) {
        let (word, bit) = place(page);
        if let Some(word) = self.taken.get(word) {
            word.fetch_or(bit, Ordering::Release);
        }
    }

    /// Copies a page of the file into memory, unless it is there already.
    ///
    /// The caller marks it taken when its own change is there too.
    fn copy(&self, page: u64) -> io::Result<()> {
        if self.is_taken(page) {
            return Ok(());
        }
        let mut content = [0; PAGE_BYTES];
        self.base.read_at(page * PAGE, &mut content)?;
        self.memory.write_all_at(&content, page * PAGE)
    }

    /// Whether `page` is in memory, and the first page after it, up to `last`, of which that is not
    /// true in the same way.
    ///
    /// Both in one answer: a page may be taken between two questions, and its neighbours with it.
    fn run(&self, page: u64, last: u64) -> (bool, u64) {
        let taken = self.is_taken(page);
        let next = (page + 1..last).find(|&next| self.is_taken(next) != taken);
        (taken, next.unwrap_or(last))
    }
}

/// The word of the bitmap that holds a page's bit, and the bit.
fn place(page: u64) -> (usize, u64) {
    let bits = u64::from(u64::BITS);
    // A page beyond what an index can say lies beyond the bitmap too: memory's.
    (
        usize::try_from(page / bits).unwrap_or(usize::MAX),
        1 << (page % bits),
    )
}

/// A file without a name whose content is in memory (on Linux; elsewhere the system decides).
fn anonymous_file() -> io::Result<File> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{MemfdFlags, memfd_create};
        Ok(File::from(memfd_create(
            "logdrive-overlay",
            MemfdFlags::CLOEXEC,
        )?))
    }
    #[cfg(not(target_os = "linux"))]
    tempfile::tempfile()
}

/// Where a range ends; an impossible one is refused.
fn end(offset: u64, bytes: usize) -> io::Result<u64> {
    offset
        .checked_add(bytes as u64)
        .ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.len.load(Ordering::Acquire))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let end = end(offset, out.len())?;
        if end > self.len.load(Ordering::Acquire) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (mut at, mut out) = (offset, out);
        while at < end {
            let (taken, next) = self.run(at / PAGE, end.div_ceil(PAGE));
            let run_end = end.min(next.saturating_mul(PAGE));
            let bytes = usize::try_from(run_end - at).map_err(io::Error::other)?;
            let (run, rest) = out.split_at_mut(bytes);
            if taken {
                self.memory.read_exact_at(run, at)?;
            } else {
                self.base.read_at(at, run)?;
            }
            (at, out) = (run_end, rest);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if len < self.len.load(Ordering::Acquire) {
            // What lies beyond the cut must read as zeros when the view grows again.
            if !len.is_multiple_of(PAGE) {
                self.copy(len / PAGE)?;
                self.mark_taken(len / PAGE);
            }
            self.whole.fetch_min(len.div_ceil(PAGE), Ordering::AcqRel);
        }
        self.memory.set_len(len)?;
        self.len.store(len, Ordering::Release);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let end = end(offset, data.len())?;
        let (first, last) = (offset / PAGE, (end - 1) / PAGE);
        let (starts_inside, ends_inside) =
            (!offset.is_multiple_of(PAGE), !end.is_multiple_of(PAGE));
        if starts_inside {
            self.copy(first)?;
        }
        if ends_inside && !(starts_inside && last == first) {
            self.copy(last)?;
        }
        self.memory.write_all_at(data, offset)?;
        (first..=last).for_each(|page| self.mark_taken(page));
        self.len.fetch_max(end, Ordering::AcqRel);
        Ok(())
    }

    // A view is nobody else's: whoever has one has all locks of it. redb asks for them where it reads
    // what it would have to repair first.

    fn try_lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn query_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use redb::{Database, ReadableDatabase, TableDefinition};

    use super::super::backend::Backend;
    use super::super::disk::{Disk, RealDisk};
    use super::*;

    const NUMBERS: TableDefinition<u64, &[u8]> = TableDefinition::new("numbers");

    fn content(file: &dyn DiskFile) -> Vec<u8> {
        let mut content = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read_at(0, &mut content).unwrap();
        content
    }

    fn insert(database: &Database, keys: std::ops::Range<u64>) {
        let change = database.begin_write().unwrap();
        {
            let mut table = change.open_table(NUMBERS).unwrap();
            for key in keys {
                table
                    .insert(key, [key.to_le_bytes()[0]; 3000].as_slice())
                    .unwrap();
            }
        }
        change.commit().unwrap();
    }

    fn check_numbers(database: &Database, keys: std::ops::Range<u64>) {
        let snapshot = database.begin_read().unwrap();
        let table = snapshot.open_table(NUMBERS).unwrap();
        let found: Vec<u64> = redb::ReadableTable::iter(&table)
            .unwrap()
            .map(|row| {
                let (key, value) = row.unwrap();
                assert_eq!(value.value(), [key.value().to_le_bytes()[0]; 3000]);
                key.value()
            })
            .collect();
        assert_eq!(found, keys.collect::<Vec<_>>());
    }

    #[test]
    fn redb_repairs_and_goes_on_in_a_view_and_the_file_stays_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(directory.path()).unwrap();
        let live = disk.create("live").unwrap();
        let database = Database::builder()
            .create_with_backend(Backend::new(live.clone()))
            .unwrap();
        insert(&database, 0..500);
        insert(&database, 500..600);
        // What a kill at this moment would leave.
        let unclean = disk.create("unclean").unwrap();
        unclean.write_at(0, &content(&*live)).unwrap();
        let before = content(&*unclean);
        assert!(
            Database::builder()
                .open_read_only_with_backend(Backend::new(unclean.clone()))
                .is_err(),
            "the file was clean: nothing to repair"
        );

        let view = Overlay::new(unclean.clone()).unwrap();
        let database = Database::builder().create_with_backend(view).unwrap();
        check_numbers(&database, 0..600);
        insert(&database, 600..2000);
        check_numbers(&database, 0..2000);
        database.close().unwrap();
        assert!(content(&*unclean) == before, "the file below was written");
    }

    /// Random changes, to a view of a file and to a plain vector: they always read alike.
    fn check_like_a_vector(seed: u64, base_len: usize) {
        println!("seed {seed}, {base_len} bytes");
        let mut random = fastrand::Rng::with_seed(seed);
        let directory = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(directory.path()).unwrap();
        let base = disk.create("base").unwrap();
        let mut model: Vec<u8> = std::iter::repeat_with(|| random.u8(1..))
            .take(base_len)
            .collect();
        base.write_at(0, &model).unwrap();
        let before = model.clone();
        let view = Overlay::new(base.clone()).unwrap();

        for _ in 0..200 {
            match random.u8(0..10) {
                0..5 => {
                    let at = random.usize(0..=model.len() + 5000);
                    let bytes = if random.bool() {
                        random.usize(0..200)
                    } else {
                        4096 * 2
                    };
                    let at = if random.bool() { at / 4096 * 4096 } else { at };
                    let written: Vec<u8> = std::iter::repeat_with(|| random.u8(1..))
                        .take(bytes)
                        .collect();
                    view.write(at as u64, &written).unwrap();
                    if bytes > 0 {
                        model.resize(model.len().max(at + bytes), 0);
                        model[at..at + bytes].copy_from_slice(&written);
                    }
                }
                5 => {
                    let len = random.usize(0..=model.len() + 9000);
                    view.set_len(len as u64).unwrap();
                    model.resize(len, 0);
                }
                _ => {
                    let from = random.usize(0..=model.len());
                    let to = random.usize(from..=model.len());
                    let mut found = vec![0xAA; to - from];
                    view.read(from as u64, &mut found).unwrap();
                    assert!(found == model[from..to], "{from}..{to} differ");
                }
            }
            assert_eq!(view.len().unwrap(), model.len() as u64);
        }
        assert!(content(&*base) == before, "the file below was written");
    }

    #[test]
    fn a_view_reads_like_a_vector_after_random_writes_and_changes_of_length() {
        for (seed, base_len) in [0, 1, 4095, 4096, 4097, 300_000, 70 * 4096]
            .into_iter()
            .enumerate()
        {
            (0..5).for_each(|round| check_like_a_vector(seed as u64 * 100 + round, base_len));
        }
    }

    #[test]
    fn what_a_cut_removed_reads_as_zeros_when_the_view_grows_again() {
        let directory = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(directory.path()).unwrap();
        let base = disk.create("base").unwrap();
        base.write_at(0, &[7; 4 * 4096]).unwrap();
        let view = Overlay::new(base).unwrap();
        view.set_len(4096 + 10).unwrap();
        view.set_len(4 * 4096).unwrap();
        let mut found = vec![1; 4 * 4096];
        view.read(0, &mut found).unwrap();
        assert!(found[..4106].iter().all(|&byte| byte == 7));
        assert!(found[4106..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn reading_beyond_the_end_fails() {
        let directory = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(directory.path()).unwrap();
        let view = Overlay::new(disk.create("base").unwrap()).unwrap();
        view.set_len(10).unwrap();
        let error = view.read(5, &mut [0; 6]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_read_beside_writes_sees_each_page_before_or_after_its_first_write() {
        const PAGES: u64 = 400;
        const BYTES: usize = 400 * PAGE_BYTES;
        let directory = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(directory.path()).unwrap();
        let base = disk.create("base").unwrap();
        base.write_at(0, &vec![1; BYTES]).unwrap();
        let mut found = vec![0; BYTES];
        for _ in 0..100 {
            let view = Overlay::new(base.clone()).unwrap();
            std::thread::scope(|scope| {
                // In the order of reading: a read that asks twice about a page is caught between.
                let writer = scope.spawn(|| {
                    for page in 0..PAGES {
                        view.write(page * PAGE, &[2; PAGE_BYTES]).unwrap();
                    }
                });
                let mut complete = false;
                while !complete {
                    complete = writer.is_finished();
                    view.read(0, &mut found).unwrap();
                    for page in found.chunks(PAGE_BYTES) {
                        assert!(page == [2; PAGE_BYTES] || (!complete && page == [1; PAGE_BYTES]));
                    }
                }
            });
        }
    }
}
