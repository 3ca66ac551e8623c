//! The `logdrive` program; everything it does is in [`logdrive::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    logdrive::cli::main()
}
