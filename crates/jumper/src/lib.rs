//! jumper
