//! The behaviour of the key set, in memory, in files and in the database.
#![cfg(test)]

mod common;
mod database;
mod directory;
mod keys;
