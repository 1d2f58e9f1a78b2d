//! The official shell says the same on both servers.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;

use ottla::zookeeper::embedded::{EmbeddedConfig, Server};

use crate::jvm::{Stock, java_reading};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/zookeeper_reference/shell.txt");

/// What the shell prints, without prompts, events and clocks.
fn shell(server: SocketAddr, log: &Path) -> Vec<String> {
    let arguments = ["-server", &server.to_string()];
    let script = File::open(SCRIPT).expect("the script");
    let mut shell = java_reading("org.apache.zookeeper.ZooKeeperMain", &[], &arguments, log, script.into());
    assert!(shell.0.wait().expect("it ends").success());
    let output = std::fs::read_to_string(log).expect("the output");
    output.lines().filter_map(plain).collect()
}

fn plain(line: &str) -> Option<String> {
    let line = match line.split_once("] ") {
        Some((prompt, line)) if prompt.starts_with("[zk: ") => line,
        _ => line,
    };
    let noise = ["WATCHER::", "WatchedEvent", "log4j:", "Connecting to"];
    if line.is_empty() || noise.iter().any(|noise| line.starts_with(noise)) {
        return None;
    }
    let masked = ["ctime = ", "mtime = ", "ephemeralOwner = 0x1"].into_iter().find(|label| line.starts_with(label));
    let mut line = masked.unwrap_or(line).to_owned();
    if let Some(list) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let mut names: Vec<&str> = list.split(", ").collect();
        names.sort_unstable();
        line = names.join(", ");
    }
    Some(line)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_official_shell_sees_no_difference() {
    let (mine, theirs) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let config = EmbeddedConfig {
        port: 0,
        address: "127.0.0.1".to_owned(),
        super_digest: Some("super:D/InIHSb7yEEbrWz8b9l71RjZJU=".to_owned()),
        ..EmbeddedConfig::new(mine.path())
    };
    let server = Server::start(config).await.expect("the server starts");
    let address = server.local_addr();
    let run = move || {
        let stock = Stock::start(theirs.path());
        let (ours, reference) =
            (shell(address, &mine.path().join("shell.out")), shell(stock.address, &theirs.path().join("shell.out")));
        assert!(reference.len() > 150, "the script ran: {reference:#?}");
        for (line, (ours, reference)) in ours.iter().zip(&reference).enumerate() {
            assert_eq!(ours, reference, "line {line}");
        }
        assert_eq!(ours.len(), reference.len());
    };
    if let Err(error) = tokio::task::spawn_blocking(run).await {
        std::panic::resume_unwind(error.into_panic());
    }
    server.shutdown().await;
}
