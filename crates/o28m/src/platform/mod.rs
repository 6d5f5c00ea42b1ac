//! The wiring: which component of which crate gets which listener, store and key set.

mod bound;

pub use bound::Bound;
