//! Programs of the reference, each ended with its guard.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::raw::four_letters;

/// The directory with the jars of Apache Kafka 3.9.2.
pub fn libs() -> PathBuf {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/kafka-3.9.2/libs");
    let libs = std::env::var_os("OTTLA_KAFKA_LIBS").map_or_else(default, PathBuf::from);
    assert!(
        libs.join("zookeeper-3.8.4.jar").exists(),
        "the jars of Apache Kafka 3.9.2 are not in {}: run scripts/test, which fetches them, or set OTTLA_KAFKA_LIBS",
        libs.display()
    );
    libs
}

/// A Java program that dies with this value.
pub struct Java(pub Child);

impl Drop for Java {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn java(main: &str, options: &[&str], arguments: &[&str], log: &Path) -> Java {
    java_reading(main, options, arguments, log, Stdio::null())
}

pub fn java_reading(main: &str, options: &[&str], arguments: &[&str], log: &Path, input: Stdio) -> Java {
    let output = std::fs::File::create(log).expect("a file for the output");
    let child = Command::new("java")
        .args(["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"])
        .args(options)
        .arg("-cp")
        .arg(libs().join("*"))
        .arg(main)
        .args(arguments)
        .stdin(input)
        .stdout(output.try_clone().expect("a second handle"))
        .stderr(output)
        .spawn()
        .expect("java runs");
    Java(child)
}

/// A port that is free, outside the range from which the kernel takes those of outgoing connections.
pub fn free_port() -> u16 {
    loop {
        let port = rand::random_range(12_000..31_000);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// A stock server on a folder.
pub struct Stock {
    java: Java,
    pub address: SocketAddr,
    log: PathBuf,
}

impl Stock {
    pub fn start(data_dir: &Path) -> Self {
        let port = free_port();
        let (config, log) = (data_dir.join("zoo.cfg"), data_dir.join("stock.out"));
        let text = format!(
            "dataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\ntickTime=2000\nmaxClientCnxns=0\n\
             admin.enableServer=false\n4lw.commands.whitelist=*\n",
            data_dir.display()
        );
        std::fs::write(&config, text).expect("a configuration");
        let config = config.display().to_string();
        let main = "org.apache.zookeeper.server.ZooKeeperServerMain";
        // user super, password test
        let options = ["-Dzookeeper.DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU="];
        let java = java(main, &options, &[&config], &log);
        let mut stock = Self { java, address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), log };
        stock.wait_until_serving();
        stock
    }

    fn wait_until_serving(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while four_letters(self.address, "ruok").as_deref() != Some("imok")
            || !four_letters(self.address, "srvr").is_some_and(|text| text.contains("Mode: standalone"))
        {
            let ended = self.java.0.try_wait().expect("a process");
            if ended.is_some() || Instant::now() > deadline {
                let output = std::fs::read_to_string(&self.log).unwrap_or_default();
                panic!("the stock server did not start ({ended:?}):\n{output}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// As an operator stops it.
    pub fn stop(mut self) {
        terminate(&self.java.0);
        self.java.0.wait().expect("it ends");
    }
}

/// SIGTERM.
pub fn terminate(child: &Child) {
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a signal");
}
