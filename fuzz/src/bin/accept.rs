//! See `o28m_gateway::fuzz::accept`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| o28m_gateway::fuzz::accept(data));
