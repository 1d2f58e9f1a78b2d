//! Four-letter words: what operators and exporters ask a server over its client port.
//!
//! All harmless ones are on; ZooKeeper has only `srvr` on unless told otherwise, but its clients use more.
//! Class `CommandExecutor` and the package `command`.

mod listings;
mod metrics;

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::super::machine::connection::Latency;
use super::Shared;
use super::core::Core;

/// What `srvr` claims to be: the version whose protocol and files these are.
const VERSION: &str = concat!("3.8.4-ottla-", env!("CARGO_PKG_VERSION"), ", built on 2024-02-12 22:16 UTC");

/// Packets and latencies since the start or the last `srst`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    pub received: u64,
    pub sent: u64,
    pub latency: Latency,
}

impl Counters {
    /// Up to four decimals, one at least.
    fn average(&self) -> String {
        let rounded = (self.latency.average_ms() * 10_000.0).round() / 10_000.0;
        if rounded.fract() == 0.0 { format!("{rounded:.1}") } else { rounded.to_string() }
    }
}

/// What an answer is made from.
struct Context<'a> {
    core: &'a mut Core,
    shared: &'a Shared,
    peer: SocketAddr,
}

type Answer = fn(&mut Context<'_>, &mut String) -> std::fmt::Result;

/// The words, and what each says.
const WORDS: &[(&[u8; 4], Answer)] = &[
    (b"ruok", |_, out| out.write_str("imok")),
    (b"isro", |_, out| out.write_str("rw")),
    (b"gtmk", |_, out| out.write_str("306")),
    (b"stmk", |_, out| out.write_str("306")),
    (b"srvr", srvr),
    (b"stat", stat),
    (b"mntr", metrics::mntr),
    (b"conf", metrics::conf),
    (b"envi", metrics::envi),
    (b"dirs", metrics::dirs),
    (b"cons", listings::cons),
    (b"dump", listings::dump),
    (b"wchs", listings::wchs),
    (b"wchc", listings::wchc),
    (b"wchp", listings::wchp),
    (b"crst", crst),
    (b"srst", srst),
    (b"hash", hash),
];

/// The answer to a word, or `None` if it is none and these bytes are a length.
pub fn answer(shared: &Shared, word: [u8; 4], peer: SocketAddr) -> Option<String> {
    let (_, answer) = WORDS.iter().find(|(known, _)| **known == word)?;
    let mut out = String::new();
    let mut core = shared.core.lock();
    // Writing to a string does not fail.
    let _ = answer(&mut Context { core: &mut core, shared, peer }, &mut out);
    Some(out)
}

fn srvr(context: &mut Context<'_>, out: &mut String) -> std::fmt::Result {
    writeln!(out, "Zookeeper version: {VERSION}")?;
    summary(context, out)
}

fn stat(context: &mut Context<'_>, out: &mut String) -> std::fmt::Result {
    writeln!(out, "Zookeeper version: {VERSION}\nClients:")?;
    for (_, client) in context.core.machine.connections() {
        listings::connection(client, context.peer, out)?;
        writeln!(out, ")")?;
    }
    writeln!(out)?;
    summary(context, out)
}

fn summary(context: &Context<'_>, out: &mut String) -> std::fmt::Result {
    let (counters, machine) = (&context.core.counters, &context.core.machine);
    let (min, average, max) = (counters.latency.min_ms(), counters.average(), counters.latency.max_ms);
    writeln!(out, "Latency min/avg/max: {min}/{average}/{max}")?;
    writeln!(out, "Received: {}\nSent: {}", counters.received, counters.sent)?;
    writeln!(out, "Connections: {}", machine.connections().count())?;
    writeln!(out, "Outstanding: {}", context.core.outstanding())?;
    writeln!(out, "Zxid: 0x{:x}\nMode: standalone", machine.tree.last_zxid())?;
    // ZooKeeper keeps the root under two names and counts both.
    writeln!(out, "Node count: {}", machine.tree.len() + 1)
}

fn crst(context: &mut Context<'_>, out: &mut String) -> std::fmt::Result {
    context.core.machine.reset_connection_counters();
    writeln!(out, "Connection stats reset.")
}

fn srst(context: &mut Context<'_>, out: &mut String) -> std::fmt::Result {
    context.core.counters = Counters::default();
    writeln!(out, "Server stats reset.")
}

/// The current digest, as far as one number tells it.
fn hash(context: &mut Context<'_>, out: &mut String) -> std::fmt::Result {
    let tree = &context.core.machine.tree;
    writeln!(out, "zxid:0x{:x},digest:0x{:x}", tree.last_zxid(), tree.digest())
}
