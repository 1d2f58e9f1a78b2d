//! The notation of the tables: one property is two lines, facts and doc.
//!
//! ```text
//! "name" Kind = "default" or null, Valid, Importance, Update, Support;
//!     "What it is for."
//! ```

pub(super) use super::Importance::*;
pub(super) use super::Kind::*;
pub(super) use super::Support::*;
pub(super) use super::Update::*;
pub(super) use crate::config::valid::Valid::*;

macro_rules! default {
    (null) => {
        None
    };
    ($text:literal) => {
        Some($text)
    };
}

macro_rules! properties {
    ($($name:literal $kind:ident = $default:tt, $valid:expr, $importance:ident, $update:ident, $support:ident; $doc:literal)*) => {
        &[$(Property {
            name: $name,
            kind: $kind,
            default: default!($default),
            valid: $valid,
            importance: $importance,
            update: $update,
            support: $support,
            doc: $doc,
            broker_names: &[],
        }),*]
    };
}

/// Topic properties can always change; behind the support stand the broker properties that give the default.
macro_rules! topic_properties {
    ($($name:literal $kind:ident = $default:tt, $valid:expr, $importance:ident, $support:ident, [$($broker:literal),*]; $doc:literal)*) => {
        &[$(Property {
            name: $name,
            kind: $kind,
            default: default!($default),
            valid: $valid,
            importance: $importance,
            update: PerBroker,
            support: $support,
            doc: $doc,
            broker_names: &[$($broker),*],
        }),*]
    };
}

pub(super) use {default, properties, topic_properties};
