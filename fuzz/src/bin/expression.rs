//! See `o28m_router::testing::fuzz::expression`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| o28m_router::testing::fuzz::expression(data));
