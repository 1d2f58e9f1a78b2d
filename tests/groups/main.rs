//! The group coordinator's pure machine under scenarios and random exploration.

mod driver;
mod expiry;
mod harness;
mod joining;
mod mistake;
mod model;
mod offsets;
mod random;
mod records;
mod statics;
