//! Damage of every kind to every file of a log directory: files cut at every byte, bits flipped, tails of zeros, garbage, files
//! swapped or missing, remains of a compaction or a deletion. Whatever was done, what is served afterwards are sound batches where
//! they belong, the log goes on, its neighbour does not notice, and what was lost is named with its file and offset.

mod corruptions;
mod cuts;
mod leftovers;
mod subject;
