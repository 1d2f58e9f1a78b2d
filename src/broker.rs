//! The life of the broker: start-up order, shutdown.
