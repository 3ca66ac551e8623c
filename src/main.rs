//! The `logdrive` program; everything it does is in [`logdrive::cli`].

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// Records are allocated where they arrive and freed where they are written, on another thread.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    logdrive::cli::main()
}
