//! See `o28m_kong::fuzz::validate`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| o28m_kong::fuzz::validate(data));
