//! Answers of name servers.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| o28m_net::dns::fuzz::answer(data));
