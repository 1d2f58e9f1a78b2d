//! Brokers that log in to a stock ZooKeeper, guard their znodes, and speak TLS with it.

mod common;

use common::Broker;
use common::cluster::eventually;
use common::free_port;
use ottla::config::zookeeper::{TlsSettings, ZookeeperSecurity};
use ottla::config::{jaas::Login, keystore::StoreFile};
use ottla::zookeeper::{Zk, ZkConfig, ZkError, ZkSecurity};
use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// A stock server with settings of its own.
struct Stock {
    port: u16,
    child: Child,
}

impl Drop for Stock {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Stock {
    fn start(dir: &Path, port: u16, settings: &str, options: &[String]) -> Stock {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let default = || root.join("target/kafka-3.9.2/libs");
        let libs = std::env::var_os("OTTLA_KAFKA_LIBS").map_or_else(default, PathBuf::from);
        assert!(libs.is_dir(), "{} is missing: run scripts/kafka libs once, or set OTTLA_KAFKA_LIBS", libs.display());
        let config = dir.join("zoo.cfg");
        let text = format!(
            "dataDir={}\ntickTime=500\nmaxSessionTimeout=120000\nadmin.enableServer=false\n{settings}",
            dir.join("data").display()
        );
        fs::write(&config, text).expect("zoo.cfg");
        let log = File::create(dir.join("zookeeper.log")).expect("zookeeper.log");
        let child = Command::new("java")
            .args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"])
            .args(options)
            .arg("-cp")
            .arg(format!("{}/*", libs.display()))
            .arg("org.apache.zookeeper.server.ZooKeeperServerMain")
            .arg(config)
            .stdout(log.try_clone().expect("second handle"))
            .stderr(log)
            .spawn()
            .expect("java runs");
        let stock = Stock { port, child };
        eventually("the stock ZooKeeper listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        stock
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

async fn connect(connect: &str, security: &ZookeeperSecurity) -> Result<Zk, ZkError> {
    let security = ZkSecurity::open(security)?;
    let timeout = Duration::from_secs(10);
    let config = ZkConfig { connect: connect.into(), security, connection_timeout: timeout, session_timeout: timeout };
    Zk::connect(config).await
}

/// Longer than the test waits for the guardian to end the session.
const SESSION: (&str, &str) = ("zookeeper.session.timeout.ms", "60000");
const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_broker_logs_in_and_its_znodes_are_its_own() {
    let dir = tempfile::tempdir().expect("temp folder");
    let (server, client, wrong) = (dir.path().join("server.conf"), dir.path().join("client"), dir.path().join("wrong"));
    let module = "org.apache.zookeeper.server.auth.DigestLoginModule required";
    fs::write(&server, format!("Server {{ {module} user_broker=\"it's \\\"secret\\\"\"; }};")).expect("written");
    let login = |password: &str| format!("Client {{ {module} username=\"broker\" password=\"{password}\"; }};");
    fs::write(&client, login("it's \\\"secret\\\"")).expect("written");
    fs::write(&wrong, login("guessed")).expect("written");
    let port = free_port();
    let stock = Stock::start(
        dir.path(),
        port,
        &format!(
            "clientPort={port}\nclientPortAddress=127.0.0.1\n\
             authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider\n"
        ),
        &[format!("-Djava.security.auth.login.config={}", server.display())],
    );
    let address = format!("127.0.0.1:{}", stock.port);
    let options = |file: &Path| format!("-Djava.security.auth.login.config={}", file.display());
    let chroot = format!("{address}/guarded/cluster");
    let properties = [("zookeeper.connect", chroot.as_str()), ("zookeeper.set.acl", "true"), SESSION];

    let mut stranger = Broker::prepare(&properties);
    stranger.set_environment("KAFKA_OPTS", &options(&wrong));
    stranger.spawn();
    assert!(!stranger.ended().success());
    assert!(stranger.log().contains("refuses user broker"), "{}", stranger.log());

    let mut broker = Broker::prepare(&properties);
    broker.set_environment("KAFKA_OPTS", &options(&client));
    broker.restart();
    broker.client().create_topic("t", 1, &[]).expect("created");

    let runtime = runtime();
    let anybody = runtime.block_on(connect(&chroot, &ZookeeperSecurity::default())).expect("connected");
    let read = |path: &'static str| runtime.block_on(anybody.get(path));
    assert!(read("/brokers/topics/t").expect("all may read").is_some());
    assert_eq!(read("/config/users"), Err(ZkError::NoAuth), "secrets");
    assert_eq!(runtime.block_on(anybody.set("/brokers/topics/t", b"", None)), Err(ZkError::NoAuth));
    assert!(runtime.block_on(anybody.create_with_parents("/consumers/old", b"")).is_ok(), "open to all");
    let login = Some(Login { username: "broker".into(), password: "it's \"secret\"".into() });
    let security = ZookeeperSecurity { login, ..ZookeeperSecurity::default() };
    let owner = runtime.block_on(connect(&chroot, &security)).expect("logged in");
    assert!(runtime.block_on(owner.get("/config/users")).expect("the owner's").is_some());

    // The guardian logs in too.
    let killed = Instant::now();
    broker.kill();
    eventually("the registration is gone", || read("/brokers/ids/0").expect("an answer").is_none().then_some(()));
    assert!(killed.elapsed() < SOON, "{:?}", killed.elapsed());
}

/// Stores as `keytool` writes them: a key pair that signs itself, and its certificate alone.
fn keytool(dir: &Path, arguments: &str) {
    let done =
        Command::new("keytool").current_dir(dir).args(arguments.split_whitespace()).output().expect("keytool runs");
    assert!(done.status.success(), "{arguments}: {}", String::from_utf8_lossy(&done.stdout));
}

fn key_pair(dir: &Path, name: &str, kind: &str, more: &str) {
    let store = format!("-keystore {name}.{kind} -storetype {kind} -storepass {name}-pass");
    let algorithm = if more.contains("-keyalg") { "" } else { "-keyalg RSA -keysize 2048" };
    keytool(dir, &format!("-genkeypair -alias {name} {algorithm} -dname CN={name} {more} {store}"));
    keytool(dir, &format!("-exportcert -rfc -alias {name} -file {name}.pem {store}"));
}

/// `openssl` of a key in a PKCS12 store: the certificate, and the key in the form that `form` makes of it.
fn pem(dir: &Path, store: &str, password: &str, form: &str, to: &str) {
    let script = format!(
        "openssl pkcs12 -in {store} -passin pass:{password} -nodes -nokeys >{to} && \
         openssl pkcs12 -in {store} -passin pass:{password} -nodes -nocerts | openssl {form} >>{to}"
    );
    let done = Command::new("sh").current_dir(dir).args(["-c", &script]).output().expect("a shell");
    assert!(done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn brokers_speak_tls_with_every_kind_of_store() {
    let folder = tempfile::tempdir().expect("temp folder");
    let dir = folder.path();
    key_pair(dir, "server", "jks", "-ext san=dns:localhost");
    key_pair(dir, "client", "pkcs12", "");
    key_pair(dir, "other", "jks", "");
    key_pair(dir, "curve", "pkcs12", "-keyalg EC -groupname secp256r1");
    key_pair(dir, "curve384", "jks", "-keyalg EC -groupname secp384r1");
    key_pair(dir, "curve521", "pkcs12", "-keyalg EC -groupname secp521r1");
    for (store, kind, names) in [
        ("clients.p12", "pkcs12", ["client", "other", "curve", "curve384"].as_slice()),
        ("server.p12", "pkcs12", &["server"]),
        ("trust.jks", "jks", &["server"]),
    ] {
        for name in names {
            keytool(
                dir,
                &format!(
                    "-importcert -noprompt -alias {name} -file {name}.pem -keystore {store} -storetype {kind} -storepass trust-pass"
                ),
            );
        }
    }
    let port = free_port();
    let at = |name: &str| dir.join(name).display().to_string();
    let settings = format!(
        "secureClientPort={port}\nserverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory\nssl.clientAuth=need\n\
         ssl.keyStore.location={}\nssl.keyStore.password=server-pass\nssl.trustStore.location={}\nssl.trustStore.password=trust-pass\n",
        at("server.jks"),
        at("clients.p12")
    );
    let _stock = Stock::start(dir, port, &settings, &[]);

    let store = |name: &str, password: &str| Some(StoreFile { path: dir.join(name), password: Some(password.into()) });
    let security = |keystore, truststore, verify_host| {
        let tls = TlsSettings { keystore, truststore, verify_host, ..TlsSettings::default() };
        ZookeeperSecurity { tls: Some(tls), ..ZookeeperSecurity::default() }
    };
    let runtime = runtime();
    let connects = |host: &str, security: &ZookeeperSecurity| {
        let connected = runtime.block_on(connect(&format!("{host}:{port}"), security));
        connected.map(|zk| runtime.block_on(zk.get("/")).expect("an answer").is_some())
    };
    let (trust, own) = (store("server.p12", "trust-pass"), store("client.pkcs12", "client-pass"));
    assert_eq!(connects("localhost", &security(own.clone(), trust.clone(), true)), Ok(true));
    let with_jks = security(store("other.jks", "other-pass"), store("trust.jks", "trust-pass"), true);
    assert_eq!(connects("localhost", &with_jks), Ok(true));
    assert_eq!(connects("localhost", &security(own.clone(), store("server.pem", ""), true)), Ok(true));
    assert_eq!(connects("127.0.0.1", &security(own.clone(), trust.clone(), false)), Ok(true), "any host");
    // Keys on curves: Java leaves their public half away, and PEM knows them in two forms.
    pem(dir, "curve.pkcs12", "curve-pass", "ec", "sec1.pem");
    pem(dir, "curve.pkcs12", "curve-pass", "pkcs8 -topk8 -nocrypt", "pkcs8.pem");
    for (name, password) in
        [("curve.pkcs12", "curve-pass"), ("curve384.jks", "curve384-pass"), ("sec1.pem", ""), ("pkcs8.pem", "")]
    {
        assert_eq!(connects("localhost", &security(store(name, password), trust.clone(), true)), Ok(true), "{name}");
    }
    pem(dir, "curve.pkcs12", "curve-pass", "pkcs8 -topk8 -passout pass:secret", "encrypted.pem");
    for (name, password, said) in
        [("curve521.pkcs12", "curve521-pass", "secp256r1 and secp384r1"), ("encrypted.pem", "", "encrypted PEM keys")]
    {
        let refused = connects("localhost", &security(store(name, password), trust.clone(), true));
        assert!(matches!(&refused, Err(ZkError::Tls(text)) if text.contains(said)), "{name}: {refused:?}");
    }
    let refused = |answer: Result<bool, ZkError>| matches!(answer, Err(ZkError::ConnectTimeout { .. }));
    assert!(refused(connects("127.0.0.1", &security(own.clone(), trust.clone(), true))), "another name");
    assert!(refused(connects("localhost", &security(own.clone(), store("client.pem", ""), true))), "not trusted");
    let mistaken = security(own, store("server.p12", "wrong"), true);
    assert!(matches!(connects("localhost", &mistaken), Err(ZkError::Tls(_))), "a wrong password is told at once");

    let address = format!("localhost:{port}");
    let (keys, trusted) = (at("client.pkcs12"), at("trust.jks"));
    let properties = [
        ("zookeeper.connect", address.as_str()),
        ("zookeeper.ssl.client.enable", "true"),
        ("zookeeper.clientCnxnSocket", "org.apache.zookeeper.ClientCnxnSocketNetty"),
        ("zookeeper.ssl.keystore.location", keys.as_str()),
        ("zookeeper.ssl.keystore.password", "client-pass"),
        ("zookeeper.ssl.truststore.location", trusted.as_str()),
        ("zookeeper.ssl.truststore.password", "trust-pass"),
        SESSION,
    ];
    let mut broker = Broker::start(&properties);
    broker.client().create_topic("t", 1, &[]).expect("created");
    let zk = runtime.block_on(connect(&address, &with_jks)).expect("connected");
    let registered = || runtime.block_on(zk.get("/brokers/ids/0")).expect("an answer");
    assert!(registered().is_some());
    let killed = Instant::now();
    broker.kill();
    eventually("the registration is gone", || registered().is_none().then_some(()));
    assert!(killed.elapsed() < SOON, "the guardian speaks TLS too: {:?}", killed.elapsed());
}
