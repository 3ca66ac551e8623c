#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| logdrive::fuzzing::segment_rows(bytes));
