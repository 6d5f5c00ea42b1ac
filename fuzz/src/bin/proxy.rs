//! See `o28m_gateway::fuzz::proxy`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| o28m_gateway::fuzz::proxy(data));
