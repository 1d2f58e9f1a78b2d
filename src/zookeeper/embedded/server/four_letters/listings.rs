//! Connections, sessions and watches, one by one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use super::super::super::machine::Connection;
use super::super::super::machine::connection::short_name;
use super::Context;
use crate::base::time::{monotonic_ms, wall_ms};

/// Up to the closing bracket; the one who asks shows no interest in more.
pub fn connection(client: &Connection, asking: SocketAddr, out: &mut String) -> std::fmt::Result {
    let interest = u8::from(client.peer != asking);
    let Connection { peer, received, sent, .. } = client;
    write!(out, " /{peer}[{interest}](queued=0,recved={received},sent={sent}")
}

pub fn cons(context: &mut Context<'_>, out: &mut String) -> std::fmt::Result {
    for (_, client) in context.core.machine.connections() {
        connection(client, context.peer, out)?;
        if let Some(session) = client.session {
            write!(out, ",sid=0x{session:x},lop={},est={}", short_name(client.last_op), client.established_ms)?;
            write!(out, ",to={},lcxid=0x{:x}", client.timeout_ms, client.last_cxid)?;
            write!(out, ",lzxid=0x{:x},lresp={}", client.last_zxid, client.last_response_ms)?;
            let (min, average) = (client.latency.min_ms(), client.latency.average_ms());
            write!(out, ",llat={},minlat={min},avglat={average}", client.latency.last_ms)?;
            write!(out, ",maxlat={}", client.latency.max_ms)?;
        }
        writeln!(out, ")")?;
    }
    writeln!(out)
}

pub fn dump(context: &mut Context<'_>, out: &mut String) -> std::fmt::Result {
    let machine = &context.core.machine;
    let wall_offset = wall_ms() - monotonic_ms();
    let buckets: Vec<_> = machine.sessions.by_expiry().collect();
    writeln!(out, "SessionTracker dump:\nSession Sets ({})/({}):", buckets.len(), machine.sessions.len())?;
    for (at, ids) in buckets {
        writeln!(out, "{} expire at {}:", ids.len(), java_date(at + wall_offset))?;
        for id in ids {
            writeln!(out, "\t0x{id:x}")?;
        }
    }
    let ephemerals: BTreeMap<_, _> = machine.tree.ephemerals().iter().collect();
    writeln!(out, "ephemeral nodes dump:\nSessions with Ephemerals ({}):", ephemerals.len())?;
    for (session, paths) in ephemerals {
        writeln!(out, "0x{session:x}:")?;
        for path in paths {
            writeln!(out, "\t{path}")?;
        }
    }
    let connections: Vec<_> = machine.connections().filter_map(|(_, client)| Some((client, client.session?))).collect();
    writeln!(out, "Connections dump:\nConnections Sets (1)/({}):", connections.len())?;
    writeln!(out, "{} expire at {}:", connections.len(), java_date(wall_ms()))?;
    for (client, session) in connections {
        writeln!(out, "\tip: /{} sessionId: 0x{session:x}", client.peer)?;
    }
    Ok(())
}

pub fn wchs(context: &mut Context<'_>, out: &mut String) -> std::fmt::Result {
    let watches = &context.core.machine.data_watches;
    let (connections, paths) = (watches.connections(), watches.by_path().count());
    writeln!(out, "{connections} connections watching {paths} paths\nTotal watches:{}", watches.len())
}

pub fn wchc(context: &mut Context<'_>, out: &mut String) -> std::fmt::Result {
    let machine = &context.core.machine;
    for (connection, paths) in machine.data_watches.by_connection() {
        writeln!(out, "0x{:x}", machine.session_of(connection))?;
        for path in paths {
            writeln!(out, "\t{path}")?;
        }
    }
    writeln!(out)
}

pub fn wchp(context: &mut Context<'_>, out: &mut String) -> std::fmt::Result {
    let machine = &context.core.machine;
    for (path, connections) in machine.data_watches.by_path() {
        writeln!(out, "{path}")?;
        for connection in connections {
            writeln!(out, "\t0x{:x}", machine.session_of(connection))?;
        }
    }
    writeln!(out)
}

/// As `java.util.Date` prints itself, in UTC.
fn java_date(wall_ms: i64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = wall_ms.div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let weekday = DAYS.get(days.rem_euclid(7) as usize).copied().unwrap_or_default();
    let month = MONTHS.get(month).copied().unwrap_or_default();
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{weekday} {month} {day:02} {hour:02}:{minute:02}:{second:02} UTC {year}")
}

/// Year, month from 0 and day of a day since 1970, by walking eras of 400 years that begin in March.
fn civil(days: i64) -> (i64, usize, i64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = (march_month + 2) % 12;
    (era * 400 + year_of_era + i64::from(month < 2), month as usize, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_read_as_javas() {
        assert_eq!(java_date(0), "Thu Jan 01 00:00:00 UTC 1970");
        assert_eq!(java_date(951_827_696_000), "Tue Feb 29 12:34:56 UTC 2000");
        assert_eq!(java_date(1_763_769_599_999), "Fri Nov 21 23:59:59 UTC 2025");
    }
}
