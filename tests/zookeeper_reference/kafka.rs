//! Apache Kafka 3.9.2, unchanged, with this server as its ZooKeeper.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use ottla::zookeeper::embedded::codes::op;
use ottla::zookeeper::embedded::{EmbeddedConfig, Server};

use crate::jvm::{free_port, java, terminate};
use crate::raw::{Raw, body};

/// A node's data, or `None` if it is not there.
fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut client = Raw::connect(address, 6000);
    let reply = client.ask(op::GET_DATA, &body(|to| to.string(path).bool(false))).ok();
    let _ = client.call(2, op::CLOSE_SESSION, &[]);
    let reply = reply?;
    let len = i32::from_be_bytes(reply.get(..4)?.try_into().ok()?);
    let len = usize::try_from(len).unwrap_or(0);
    Some(String::from_utf8_lossy(reply.get(4..4 + len)?).into_owned())
}

fn await_node(address: SocketAddr, path: &str, log: &Path) -> String {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        if let Some(data) = get(address, path) {
            return data;
        }
        assert!(
            Instant::now() < deadline,
            "{path} did not appear:\n{}",
            std::fs::read_to_string(log).unwrap_or_default()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn run(zookeeper: SocketAddr, dir: &Path) {
    let (port, log) = (free_port(), dir.join("kafka.out"));
    let properties = dir.join("server.properties");
    let text = format!(
        "broker.id=7\nlisteners=PLAINTEXT://127.0.0.1:{port}\nlog.dirs={}\nzookeeper.connect={zookeeper}/kafka\n\
         offsets.topic.replication.factor=1\noffsets.topic.num.partitions=1\nlog.cleaner.enable=false\n",
        dir.join("logs").display()
    );
    std::fs::write(&properties, text).expect("properties");
    let properties = properties.display().to_string();
    let mut broker = java("kafka.Kafka", &[], &[&properties], &log);
    let registration = await_node(zookeeper, "/kafka/brokers/ids/7", &log);
    assert!(registration.contains(&format!("PLAINTEXT://127.0.0.1:{port}")), "{registration}");
    assert!(await_node(zookeeper, "/kafka/controller", &log).contains("\"brokerid\":7"));

    let bootstrap = format!("127.0.0.1:{port}");
    let arguments = ["--bootstrap-server", &bootstrap, "--create", "--topic", "made", "--partitions", "3"];
    let tool_log = dir.join("topics.out");
    let mut topics = java("org.apache.kafka.tools.TopicCommand", &[], &arguments, &tool_log);
    assert!(topics.0.wait().expect("it ends").success(), "{}", std::fs::read_to_string(&tool_log).unwrap_or_default());
    assert!(await_node(zookeeper, "/kafka/brokers/topics/made", &log).contains("\"partitions\":{"));
    let state = await_node(zookeeper, "/kafka/brokers/topics/made/partitions/2/state", &log);
    assert!(state.contains("\"leader\":7"), "{state}");

    terminate(&broker.0);
    let ended = broker.0.wait().expect("it ends");
    // A JVM that SIGTERM ends says 128 + 15.
    assert!(matches!(ended.code(), Some(0 | 143)), "{ended}");
    assert_eq!(get(zookeeper, "/kafka/brokers/ids/7"), None, "the registration goes with the session");
    let output = std::fs::read_to_string(&log).unwrap_or_default();
    assert!(!output.contains("FATAL") && !output.contains("Exiting Kafka due to fatal"), "{output}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apache_kafka_starts_creates_a_topic_and_stops() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = EmbeddedConfig {
        port: 0,
        address: "127.0.0.1".to_owned(),
        ..EmbeddedConfig::new(dir.path().join("zookeeper"))
    };
    let server = Server::start(config).await.expect("the server starts");
    let (address, path) = (server.local_addr(), dir.path().to_owned());
    if let Err(error) = tokio::task::spawn_blocking(move || run(address, &path)).await {
        std::panic::resume_unwind(error.into_panic());
    }
    server.shutdown().await;
}
