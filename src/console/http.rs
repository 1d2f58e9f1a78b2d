//! As much of HTTP/1.1 as a scraper and a health check need: GET and HEAD, one request a connection, no bodies.
//!
//! Invariant: a connection lives for a few seconds, and there are few of them: a peer decides neither how much is read nor how long
//! somebody waits for it.

use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

pub const OK: &str = "200 OK";
pub const NOT_FOUND: &str = "404 Not Found";
pub const UNAVAILABLE: &str = "503 Service Unavailable";
const BAD_REQUEST: &str = "400 Bad Request";
const NOT_ALLOWED: &str = "405 Method Not Allowed";

const CONNECTIONS_MAX: usize = 32;
const HEAD_BYTES_MAX: usize = 8 << 10;
const PATIENCE: Duration = Duration::from_secs(10);
/// After the system refused a connection, such as for want of descriptors.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

pub struct Answer {
    pub status: &'static str,
    pub content_type: &'static str,
    pub body: String,
}

impl Answer {
    pub fn text(status: &'static str, body: &str) -> Answer {
        Answer { status, content_type: "text/plain; charset=utf-8", body: body.to_owned() }
    }
}

/// Answers connections for ever.
pub async fn serve(socket: TcpListener, answer: impl Fn(&str) -> Answer + Send + Sync + 'static) {
    let (answer, free) = (Arc::new(answer), Arc::new(Semaphore::new(CONNECTIONS_MAX)));
    loop {
        let Ok(permit) = free.clone().acquire_owned().await else { return };
        match socket.accept().await {
            Ok((stream, _)) => {
                let answer = answer.clone();
                tokio::spawn(async move {
                    // Who is slow, or goes away, is not missed.
                    let _ = tokio::time::timeout(PATIENCE, converse(stream, &*answer)).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "the console cannot take a connection");
                tokio::time::sleep(REFUSED_PAUSE).await;
            }
        }
    }
}

async fn converse(mut stream: TcpStream, answer: &(dyn Fn(&str) -> Answer + Send + Sync)) -> std::io::Result<()> {
    let head = read_head(&mut stream).await?;
    let (answer, has_body) = match parse(&head) {
        Some(("GET", path)) => (answer(path), true),
        Some(("HEAD", path)) => (answer(path), false),
        Some(_) => (Answer::text(NOT_ALLOWED, "GET or HEAD\n"), true),
        None => (Answer::text(BAD_REQUEST, "not HTTP/1\n"), true),
    };
    let Answer { status, content_type, body } = answer;
    let mut text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    if has_body {
        text.push_str(&body);
    }
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}

/// Up to the empty line, or as much as anybody may send.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while head.len() < HEAD_BYTES_MAX && !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut piece).await? {
            0 => break,
            read => head.extend_from_slice(piece.get(..read).unwrap_or_default()),
        }
    }
    Ok(head)
}

/// Method and path of a whole head.
fn parse(head: &[u8]) -> Option<(&str, &str)> {
    let head = std::str::from_utf8(head).ok()?;
    let (head, _) = head.split_once("\r\n\r\n")?;
    let mut words = head.lines().next()?.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let is_sound = words.next().is_none() && version.starts_with("HTTP/1.") && target.starts_with('/');
    is_sound.then(|| (method, target.split_once('?').map_or(target, |(path, _)| path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_or_refused() {
        for (head, expected) in [
            ("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", Some(("GET", "/metrics"))),
            ("GET /metrics?name[]=a HTTP/1.0\r\n\r\n", Some(("GET", "/metrics"))),
            ("HEAD /healthz HTTP/1.1\r\n\r\n", Some(("HEAD", "/healthz"))),
            ("GET /metrics HTTP/1.1\r\nHost: a\r\n", None),
            ("GET /metrics HTTP/2\r\n\r\n", None),
            ("GET metrics HTTP/1.1\r\n\r\n", None),
            ("GET  / HTTP/1.1\r\n\r\n", None),
            ("GET / HTTP/1.1 x\r\n\r\n", None),
            ("GET\r\n\r\n", None),
            ("\r\n\r\n", None),
            ("", None),
        ] {
            assert_eq!(parse(head.as_bytes()), expected, "{head:?}");
        }
        assert_eq!(parse(b"GET /\xff HTTP/1.1\r\n\r\n"), None);
    }

    #[tokio::test]
    async fn no_more_is_read_than_a_head_may_have() {
        let endless = vec![b'a'; 1 << 20];
        let head = read_head(&mut &endless[..]).await.unwrap();
        assert!(head.len() < HEAD_BYTES_MAX + 1024, "{}", head.len());
        assert_eq!(parse(&head), None);
    }
}
