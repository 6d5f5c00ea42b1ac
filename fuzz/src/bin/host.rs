//! See `o28m_router::testing::fuzz::host`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| o28m_router::testing::fuzz::host(data));
