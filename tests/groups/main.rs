//! The group coordinator's pure machine under scenarios and random exploration.

mod driver;
mod harness;
mod joining;
mod model;
mod offsets;
mod random;
mod records;
mod statics;
