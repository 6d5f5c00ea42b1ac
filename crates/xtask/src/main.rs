//! Development tooling.
fn main() {}
