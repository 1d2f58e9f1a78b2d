//! One folder, two servers in turn: each sees every znode, stat, ACL and session that the other left.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use ottla::zookeeper::embedded::codes::op;
use ottla::zookeeper::embedded::files::{folder::Folder, recovery};
use ottla::zookeeper::embedded::jute::JuteReader;
use ottla::zookeeper::embedded::{EmbeddedConfig, JUTE_MAX_BUFFER, Server};

use crate::compare::Side;
use crate::jvm::Stock;
use crate::operations::Script;
use crate::raw::{Raw, body, four_letters};

/// Every path with the bytes of its data, stat and ACL.
type Dump = BTreeMap<String, (Vec<u8>, Vec<u8>)>;

/// Reads the whole tree as the one whom no ACL stops.
fn dump(client: &mut Raw) -> Dump {
    client.call(-4, op::AUTH, &body(|to| to.i32(0).string("digest").buffer(Some(b"super:test"))));
    let mut dump = Dump::new();
    let mut open = vec!["/".to_owned()];
    while let Some(path) = open.pop() {
        let data = client.ask(op::GET_DATA, &body(|to| to.string(&path).bool(false))).expect("data");
        let acl = client.ask(op::GET_ACL, &body(|to| to.string(&path))).expect("an ACL");
        let children = client.ask(op::GET_CHILDREN, &body(|to| to.string(&path).bool(false))).expect("children");
        let children = JuteReader::new(&children).strings().expect("names");
        open.extend(children.iter().map(|child| format!("{}/{child}", path.trim_end_matches('/'))));
        dump.insert(path, (data, acl));
    }
    dump
}

fn config(dir: &Path) -> EmbeddedConfig {
    EmbeddedConfig {
        port: 0,
        address: "127.0.0.1".to_owned(),
        super_digest: Some("super:D/InIHSb7yEEbrWz8b9l71RjZJU=".to_owned()),
        snap_count: 150,
        ..EmbeddedConfig::new(dir)
    }
}

/// Does some work and leaves three sessions with their ephemerals behind, and the picture of it all.
fn work(address: SocketAddr, seed: u64) -> (Dump, Vec<(i64, Vec<u8>)>) {
    let mut side = Side::new(address);
    let mut script = Script::new(seed);
    script.mixed_containers = false;
    for _ in 0..300 {
        side.step(&script.next());
    }
    let [first, others @ ..] = side.clients() else { panic!("connections") };
    let dump = dump(first);
    (dump, others.iter().map(|client| (client.session, client.password.clone())).collect())
}

/// The other server shows the same, and lets the sessions go on.
fn check(address: SocketAddr, left: &(Dump, Vec<(i64, Vec<u8>)>), who: &str) {
    let (before, sessions) = left;
    for (session, password) in sessions {
        let resumed = Raw::resume(address, 40_000, *session, password, 0);
        assert!(resumed.is_some(), "{who}: session {session:x} is gone");
    }
    let after = dump(&mut Raw::connect(address, 40_000));
    for (path, node) in before {
        assert_eq!(Some(node), after.get(path), "{who}: {path}");
    }
    assert_eq!(before.len(), after.len(), "{who}: nodes appeared");
}

/// No digest in the files contradicts the tree they give.
fn check_digests(dir: &Path) {
    let folder = Folder::open(dir).expect("a folder");
    let recovered = recovery::recover(&folder, 2 * JUTE_MAX_BUFFER).expect("a tree");
    assert_eq!(recovered.digest_mismatches, 0);
}

fn digest_mismatches(stock: SocketAddr) -> String {
    let metrics = four_letters(stock, "mntr").expect("metrics");
    let line = metrics.lines().find(|line| line.starts_with("zk_digest_mismatches_count")).expect("the count");
    line.to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_folder_changes_hands_again_and_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().to_owned();
    for round in 0..2 {
        let server = Server::start(config(&path)).await.expect("the server starts");
        let address = server.local_addr();
        let ours = tokio::task::spawn_blocking(move || work(address, 100 + round)).await.expect("work");
        server.shutdown().await;
        let at = path.clone();
        let theirs = tokio::task::spawn_blocking(move || {
            check_digests(&at);
            let stock = Stock::start(&at);
            check(stock.address, &ours, "stock after ours");
            assert_eq!(digest_mismatches(stock.address), "zk_digest_mismatches_count\t0");
            let left = work(stock.address, 200 + round);
            stock.stop();
            left
        });
        let theirs = theirs.await.expect("the stock server's turn");
        check_digests(&path);
        let server = Server::start(config(&path)).await.expect("the server starts on the stock server's folder");
        let address = server.local_addr();
        let checked = tokio::task::spawn_blocking(move || check(address, &theirs, "ours after stock"));
        checked.await.expect("the same tree");
        server.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_server_takes_over_what_a_crash_left() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(config(dir.path())).await.expect("the server starts");
    let address = server.local_addr();
    let left = tokio::task::spawn_blocking(move || work(address, 300)).await.expect("work");
    // What is on disk while the server still runs is what a crash would leave, room and all.
    let copy = tempfile::tempdir().expect("a directory");
    let files = copy.path().join("version-2");
    std::fs::create_dir(&files).expect("a directory");
    for file in std::fs::read_dir(dir.path().join("version-2")).expect("files") {
        let file = file.expect("a file");
        std::fs::copy(file.path(), files.join(file.file_name())).expect("a copy");
    }
    let at = copy.path().to_owned();
    let checked = tokio::task::spawn_blocking(move || check(Stock::start(&at).address, &left, "stock after a crash"));
    checked.await.expect("the same tree");
    server.shutdown().await;
}
