//! See `o28m_net::fuzz::proxy_protocol`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| o28m_net::fuzz::proxy_protocol(data));
