//! See `o28m_router::testing::fuzz::path`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| o28m_router::testing::fuzz::path(data));
