//! The transaction coordinator's pure core: by hand, and explored exhaustively with producers, partitions and crashes.

mod explore;
mod harness;
mod machine;
mod mistake;
mod world;
