#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| logdrive_protocol::fuzzing::words(bytes));
