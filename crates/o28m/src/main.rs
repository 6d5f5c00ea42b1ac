//! The o28m executable.
fn main() {}
