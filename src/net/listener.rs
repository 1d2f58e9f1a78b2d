//! Binding the sockets of `listeners`, with errors that say what to do.

use crate::config::{BrokerConfig, Endpoint};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use tokio::net::TcpListener;

/// Why the broker cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    #[error(
        "listener {listener}: {host}:{port} is in use by another process; stop it, or give another port in `listeners`"
    )]
    InUse { listener: String, host: String, port: u16 },
    #[error("listener {listener}: host {host} has no address: {source}; correct it in `listeners`")]
    Unresolved { listener: String, host: String, source: io::Error },
    #[error("listener {listener}: cannot listen on {host}:{port}: {source}")]
    Bind { listener: String, host: String, port: u16, source: io::Error },
}

/// A bound listener. Port 0 in the configuration has become a real port here.
pub struct Listener {
    pub name: String,
    pub socket: TcpListener,
    pub address: SocketAddr,
}

pub fn bind(endpoint: &Endpoint, config: &BrokerConfig) -> Result<Listener, NetError> {
    let mut last = io::Error::from(ErrorKind::AddrNotAvailable);
    for address in addresses(endpoint)? {
        match listen(address, config) {
            Ok((socket, address)) => return Ok(Listener { name: endpoint.listener.clone(), socket, address }),
            Err(error) => last = error,
        }
        if last.kind() == ErrorKind::AddrInUse {
            break;
        }
        // Else perhaps a machine without IPv6: its next address is the IPv4 one.
    }
    Err(bind_error(endpoint, last))
}

fn bind_error(endpoint: &Endpoint, source: io::Error) -> NetError {
    let (listener, port) = (endpoint.listener.clone(), endpoint.port);
    let host = if endpoint.host.is_empty() { "*".to_owned() } else { endpoint.host.clone() };
    match source.kind() {
        ErrorKind::AddrInUse => NetError::InUse { listener, host, port },
        _ => NetError::Bind { listener, host, port, source },
    }
}

/// The addresses to try, best first. All interfaces: one socket for IPv6 and IPv4. A name: IPv4 first, as the JVM prefers.
fn addresses(endpoint: &Endpoint) -> Result<Vec<SocketAddr>, NetError> {
    let port = endpoint.port;
    if endpoint.host.is_empty() {
        return Ok(vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]);
    }
    let host = endpoint.host.trim_start_matches('[').trim_end_matches(']');
    let unresolved =
        |source| NetError::Unresolved { listener: endpoint.listener.clone(), host: host.to_owned(), source };
    let mut found: Vec<SocketAddr> = (host, port).to_socket_addrs().map_err(unresolved)?.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    Ok(found)
}

fn listen(address: SocketAddr, config: &BrokerConfig) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Set before `listen`, so that accepted sockets offer the window from their first packet on.
    if let Ok(size @ 1..) = usize::try_from(config.socket_receive_buffer_bytes) {
        socket.set_recv_buffer_size(size)?;
    }
    socket.bind(&address.into())?;
    socket.listen(config.socket_listen_backlog_size.max(1))?;
    let socket = TcpListener::from_std(socket.into())?;
    let address = socket.local_addr()?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(host: &str, port: u16) -> Endpoint {
        Endpoint { listener: "PLAINTEXT".into(), host: host.into(), port, security_protocol: "PLAINTEXT".into() }
    }

    #[tokio::test]
    async fn port_zero_becomes_a_real_port_and_a_second_bind_says_in_use() {
        let config = BrokerConfig::default();
        for host in ["127.0.0.1", "localhost", ""] {
            let first = bind(&endpoint(host, 0), &config).unwrap();
            assert_ne!(first.address.port(), 0);
            let Err(error) = bind(&endpoint(host, first.address.port()), &config) else { panic!("bound twice") };
            assert!(matches!(error, NetError::InUse { .. }), "{error}");
            assert!(!error.to_string().contains('\n'));
        }
    }

    #[tokio::test]
    async fn a_host_that_is_not_ours_is_an_error() {
        assert!(matches!(bind(&endpoint("192.0.2.1", 0), &BrokerConfig::default()), Err(NetError::Bind { .. })));
    }
}
