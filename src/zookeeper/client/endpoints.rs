//! `zookeeper.connect`: the servers of the ensemble and the chroot (classes `ConnectStringParser`, `StaticHostProvider`).

use crate::zookeeper::ZkError;
use rand::seq::SliceRandom;

const DEFAULT_PORT: u16 = 2181;

/// `host:port,host:port/chroot`, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectString {
    pub servers: Vec<(String, u16)>,
    /// Empty, or a path without a slash at its end.
    pub chroot: String,
}

impl ConnectString {
    pub fn parse(connect: &str) -> Result<ConnectString, ZkError> {
        let unusable = |reason: &str| ZkError::ConnectString { connect: connect.to_owned(), reason: reason.to_owned() };
        let (hosts, chroot) = connect.find('/').map_or((connect, ""), |at| connect.split_at(at));
        let chroot = chroot.trim_end_matches('/');
        let bad_step = |step: &str| step.is_empty() || step == "." || step == ".." || step.contains('\0');
        if !chroot.is_empty() && chroot.split('/').skip(1).any(bad_step) {
            return Err(unusable("its chroot is no path"));
        }
        let servers: Option<Vec<_>> =
            hosts.split(',').map(str::trim).filter(|host| !host.is_empty()).map(server).collect();
        match servers {
            Some(servers) if !servers.is_empty() => Ok(ConnectString { servers, chroot: chroot.to_owned() }),
            Some(_) => Err(unusable("it names no host")),
            None => Err(unusable("a server in it is not of the form host:port")),
        }
    }

    /// The servers in the order to try them: not all clients begin with the same one.
    pub fn shuffled(&self) -> Vec<(String, u16)> {
        let mut servers = self.servers.clone();
        servers.shuffle(&mut rand::rng());
        servers
    }
}

/// `host`, `host:port`, `[v6]:port` or a bare IPv6 address.
fn server(text: &str) -> Option<(String, u16)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        let port = if rest.is_empty() { DEFAULT_PORT } else { rest.strip_prefix(':')?.parse().ok()? };
        return Some((host.to_owned(), port));
    }
    match text.split_once(':') {
        None => Some((text.to_owned(), DEFAULT_PORT)),
        Some((_, rest)) if rest.contains(':') => Some((text.to_owned(), DEFAULT_PORT)),
        Some((host, port)) if !host.is_empty() => Some((host.to_owned(), port.parse().ok()?)),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ensemble_and_its_chroot() {
        let parsed = ConnectString::parse("a:1, b ,[::1]:3,::2/x/y/").expect("usable");
        let servers = [("a", 1), ("b", 2181), ("::1", 3), ("::2", 2181)];
        assert_eq!(parsed.servers, servers.map(|(host, port)| (host.to_owned(), port)));
        assert_eq!(parsed.chroot, "/x/y");
        assert_eq!(ConnectString::parse("a:1/").expect("usable").chroot, "");
        for wrong in ["", "/x", ",", "a:b", ":1", "a:1//x", "a:1/../x", "a:70000"] {
            assert!(ConnectString::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
