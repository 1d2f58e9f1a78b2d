//! Field conversions that the group APIs share.

use crate::wire::StrBytes;
use std::net::IpAddr;
use std::sync::Arc;

/// A copy that does not keep the request's frame alive.
pub fn shared(text: &StrBytes) -> Arc<str> {
    Arc::from(&**text)
}

pub fn shared_option(text: &Option<StrBytes>) -> Option<Arc<str>> {
    text.as_ref().map(shared)
}

pub fn option_text(text: &Option<Arc<str>>) -> Option<StrBytes> {
    text.as_deref().map(crate::wire::text)
}

/// The client's address as groups show it: a slash and the address in Java's spelling, which does not shorten IPv6.
pub fn client_host(address: IpAddr) -> Arc<str> {
    match address.to_canonical() {
        IpAddr::V4(address) => format!("/{address}").into(),
        IpAddr::V6(address) => {
            let groups: Vec<String> = address.segments().iter().map(|group| format!("{group:x}")).collect();
            format!("/{}", groups.join(":")).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_spelled_as_java_does() {
        let cases = [
            ("127.0.0.1", "/127.0.0.1"),
            ("::1", "/0:0:0:0:0:0:0:1"),
            ("::ffff:10.0.0.1", "/10.0.0.1"),
            ("fe80::a:1", "/fe80:0:0:0:0:0:a:1"),
        ];
        for (address, expected) in cases {
            assert_eq!(&*client_host(address.parse().expect("address")), expected);
        }
    }
}
