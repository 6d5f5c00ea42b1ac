//! iris
