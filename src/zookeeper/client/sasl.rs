//! DIGEST-MD5 towards ZooKeeper (RFC 2831; class `ZooKeeperSaslClient` with the login module `LoginModule`).
//!
//! Invariant: pure; and the server has to prove that it knows the password too.

use crate::config::jaas::Login;
use md5::{Digest, Md5};

/// The service and host that ZooKeeper's servers go by, whatever their address is.
const DIGEST_URI: &str = "zookeeper/zk-sasl-md5";
const NONCE_COUNT: &str = "00000001";

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SaslError {
    #[error("the server's DIGEST-MD5 challenge has no {0}")]
    Missing(&'static str),
    #[error("the server's DIGEST-MD5 challenge is malformed")]
    Malformed,
    #[error("the server does not know the password that it was to prove")]
    WrongServer,
}

/// What is left to check once the response is sent.
#[derive(Debug)]
pub struct Expected {
    rspauth: String,
}

/// The response to a challenge; `cnonce` is random.
pub fn respond(login: &Login, challenge: &[u8], cnonce: &str) -> Result<(Vec<u8>, Expected), SaslError> {
    let challenge = std::str::from_utf8(challenge).map_err(|_| SaslError::Malformed)?;
    let fields = fields(challenge)?;
    let field = |name: &str| fields.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str());
    let nonce = field("nonce").ok_or(SaslError::Missing("nonce"))?;
    let realm = field("realm").unwrap_or_default();
    let secret = {
        let user = Md5::digest(format!("{}:{realm}:{}", login.username, login.password));
        let mut all = user.to_vec();
        all.extend_from_slice(format!(":{nonce}:{cnonce}").as_bytes());
        hex(&Md5::digest(all))
    };
    let proof = |method: &str| {
        let a2 = hex(&Md5::digest(format!("{method}:{DIGEST_URI}")));
        hex(&Md5::digest(format!("{secret}:{nonce}:{NONCE_COUNT}:{cnonce}:auth:{a2}")))
    };
    let response = format!(
        "charset=utf-8,username=\"{}\",realm=\"{}\",nonce=\"{}\",nc={NONCE_COUNT},cnonce=\"{cnonce}\",digest-uri=\"{DIGEST_URI}\",\
         maxbuf=65536,response={},qop=auth",
        quoted(&login.username),
        quoted(realm),
        quoted(nonce),
        proof("AUTHENTICATE")
    );
    Ok((response.into_bytes(), Expected { rspauth: proof("") }))
}

impl Expected {
    /// Whether the server's last word shows that it knows the password.
    pub fn check(&self, last: &[u8]) -> Result<(), SaslError> {
        let last = std::str::from_utf8(last).map_err(|_| SaslError::Malformed)?;
        let proved = fields(last)?.iter().any(|(key, value)| *key == "rspauth" && *value == self.rspauth);
        if proved { Ok(()) } else { Err(SaslError::WrongServer) }
    }
}

/// `key=value,key="quoted \" value"`.
fn fields(text: &str) -> Result<Vec<(&str, String)>, SaslError> {
    let (mut found, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').ok_or(SaslError::Malformed)?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquoted(quoted)?,
            None => {
                let end = after.find(',').unwrap_or(after.len());
                let (value, after) = after.split_at(end);
                (value.to_owned(), after)
            }
        };
        found.push((key.trim(), value));
        rest = after.trim_start().strip_prefix(',').unwrap_or(after.trim_start());
    }
    Ok(found)
}

/// Up to the closing quote, and what follows it.
fn unquoted(text: &str) -> Result<(String, &str), SaslError> {
    let (mut value, mut escaped) = (String::new(), false);
    for (at, character) in text.char_indices() {
        match character {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => return Ok((value, text.get(at + 1..).unwrap_or_default())),
            other => {
                value.push(other);
                escaped = false;
            }
        }
    }
    Err(SaslError::Malformed)
}

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login() -> Login {
        Login { username: "chris".into(), password: "secret".into() }
    }

    #[test]
    fn the_server_has_to_prove_that_it_knows_the_password() {
        let challenge = br#"realm="zk-sasl-md5",nonce="OA6MG9tEQGm2hh",charset=utf-8,algorithm=md5-sess"#;
        let (response, expected) = respond(&login(), challenge, "OA6MHXh6VqTrRk").expect("a response");
        let response = String::from_utf8(response).expect("text");
        assert!(response.contains(r#"username="chris",realm="zk-sasl-md5",nonce="OA6MG9tEQGm2hh""#), "{response}");
        let good = format!("rspauth={}", expected.rspauth);
        assert_eq!(expected.check(good.as_bytes()), Ok(()));
        assert_eq!(expected.check(b"rspauth=00"), Err(SaslError::WrongServer));
        assert_eq!(expected.check(b""), Err(SaslError::WrongServer));
    }

    #[test]
    fn a_malformed_challenge_is_an_error() {
        for challenge in [&b"nonce"[..], b"nonce=\"x", b"\xff"] {
            assert_eq!(respond(&login(), challenge, "c").map(drop), Err(SaslError::Malformed));
        }
        assert_eq!(respond(&login(), b"realm=x", "c").map(drop), Err(SaslError::Missing("nonce")));
    }
}
