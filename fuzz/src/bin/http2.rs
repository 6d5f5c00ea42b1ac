//! See `o28m_net::fuzz::http2`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| o28m_net::fuzz::http2(data));
