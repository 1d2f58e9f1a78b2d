//! Partitions as this broker has them - leader state, ISR, high watermark, waiting requests - and the metadata cache.
