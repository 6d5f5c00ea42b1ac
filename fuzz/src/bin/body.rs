//! See `o28m_kong::fuzz::decode`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| o28m_kong::fuzz::decode(data));
