//! Configuration beside Apache Kafka 3.9.2: its jars are asked for their tables, and for what they make of files and values.
//!
//! The jars are in `target/kafka-3.9.2/libs` (`scripts/kafka libs` fetches them) or in `OTTLA_KAFKA_LIBS`.

use ottla::config::definitions::{self, Importance, Kind, Property, Update};
use ottla::config::load::from_properties;
use ottla::config::{BrokerConfig, ConfigError, Endpoint, LogConfig, Properties, topic_values, value, values};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

fn kafka_libs() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let libs = std::env::var_os("OTTLA_KAFKA_LIBS").map_or_else(|| root.join("target/kafka-3.9.2/libs"), PathBuf::from);
    let jar = libs.join("kafka-clients-3.9.2.jar");
    assert!(jar.exists(), "{} is missing: run scripts/kafka libs once, or set OTTLA_KAFKA_LIBS", jar.display());
    libs
}

/// Puts questions to the reference, and returns the lines of each answer.
fn ask(mode: &str, questions: &[Vec<u8>]) -> Vec<Vec<String>> {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/ConfigReference.java");
    let mut child = Command::new("java")
        .arg("-cp")
        .arg(kafka_libs().join("*"))
        .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", program, mode])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("java runs");
    let text: String = questions.iter().map(|question| hex(question) + "\n").collect();
    let mut stdin = child.stdin.take().expect("piped");
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().expect("java ends");
    assert!(output.status.success(), "java failed");
    writer.join().expect("joined").expect("all questions are read");
    let lines = String::from_utf8(output.stdout).expect("ASCII");
    let mut answers = vec![Vec::new()];
    for line in lines.lines() {
        match (line, answers.last_mut()) {
            ("end", _) => answers.push(Vec::new()),
            (line, Some(answer)) => answer.push(line.to_owned()),
            _ => unreachable!("never empty"),
        }
    }
    answers
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As the reference writes a field.
fn escaped(text: &str) -> String {
    let escape = |unit: u16| match u8::try_from(unit) {
        Ok(byte @ b' '..=b'~') if byte != b'\\' => char::from(byte).to_string(),
        _ => format!("\\u{unit:04x}"),
    };
    text.encode_utf16().map(escape).collect()
}

fn importance(property: &Property) -> &'static str {
    match property.importance {
        Importance::High => "HIGH",
        Importance::Medium => "MEDIUM",
        Importance::Low => "LOW",
    }
}

fn row(kind: &str, property: &Property) -> Vec<String> {
    let default = property.default.map_or("<null>".to_owned(), escaped);
    let valid = escaped(&property.valid.to_string());
    [kind, property.name, property.kind.name(), &default, &valid, importance(property)].map(str::to_owned).to_vec()
}

fn our_tables() -> BTreeSet<String> {
    let mut rows = BTreeSet::new();
    for property in definitions::broker_properties().filter(|property| !definitions::is_own(property.name)) {
        let update = match property.update {
            Update::ReadOnly => "read-only",
            Update::PerBroker => "per-broker",
            Update::ClusterWide => "cluster-wide",
        };
        let mut fields = row("broker", property);
        fields.extend([update.to_owned(), definitions::is_internal(property.name).to_string()]);
        rows.insert(fields.join("\t"));
    }
    rows.extend(definitions::throttle_properties().iter().map(|property| row("throttle", property).join("\t")));
    for property in definitions::topic_properties() {
        let mut fields = row("topic", property);
        fields.push(property.broker_names.join(","));
        rows.insert(fields.join("\t"));
    }
    rows
}

#[test]
fn the_tables_are_kafkas() {
    // One validator of Kafka's describes itself with a sentence; what it accepts is compared below.
    let sentence = "The default value of -1 means that this will be set to the configured value of \
                    remote.log.manager.thread.pool.size, if available; otherwise, it defaults to 10.";
    let theirs = ask("tables", &[]).concat().into_iter().map(|row| row.replace(sentence, "[1,...] or -1")).collect();
    let ours = our_tables();
    let missing: Vec<_> = BTreeSet::difference(&theirs, &ours).collect();
    let invented: Vec<_> = BTreeSet::difference(&ours, &theirs).collect();
    assert!(missing.is_empty() && invented.is_empty(), "Kafka says:\n{missing:#?}\nwe say:\n{invented:#?}");
    assert!(ours.len() > 360, "{}", ours.len());
}

/// What is special to lines of a properties file comes up often.
fn random_file(random: &mut StdRng) -> Vec<u8> {
    let pieces: &[&[u8]] = &[
        b"\\", b"\n", b"\r", b"\r\n", b" ", b"\t", b"\x0c", b"=", b":", b"#", b"!", b"a", b"b", b"\\u00e4", b"\\u12",
        b"\xe4", b"\\t",
    ];
    let count = random.random_range(0..40);
    (0..count).flat_map(|_| pieces[random.random_range(0..pieces.len())].iter().copied()).collect()
}

#[test]
fn files_are_read_as_java_reads_them() {
    let mut random = StdRng::seed_from_u64(39);
    let files: Vec<Vec<u8>> = (0..20_000).map(|_| random_file(&mut random)).collect();
    let answers = ask("properties", &files);
    for (file, answer) in files.iter().zip(&answers) {
        let ours = match Properties::parse(file) {
            Ok(properties) => {
                let pairs = properties.iter().map(|(key, value)| format!("\t{}\t{}", escaped(key), escaped(value)));
                format!("ok{}", pairs.collect::<String>())
            }
            Err(_) => "error".to_owned(),
        };
        assert_eq!([ours], answer[..], "{:?}", String::from_utf8_lossy(file));
    }
}

#[test]
fn values_are_accepted_as_kafka_accepts_them() {
    // Left out is NaN, which Kafka lets through every range of ratios and we do not.
    let texts = [
        "",
        " ",
        "0",
        "1",
        "-1",
        "-2",
        " 7 ",
        "+3",
        "08",
        "9",
        "10",
        "11",
        "14",
        "17",
        "18",
        "22",
        "23",
        "100",
        "1000",
        "30000",
        "60000",
        "2147483647",
        "2147483648",
        "-2147483648",
        "32767",
        "32768",
        "9223372036854775807",
        "9223372036854775808",
        "0.5",
        "0.2",
        "1.0",
        "1.5",
        "1e3",
        "1E-9",
        "12345678.9",
        "5f",
        "0x10",
        "Infinity",
        "1_0",
        "true",
        "FALSE",
        " True ",
        "yes",
        "gzip",
        "GZIP",
        "none",
        "producer",
        "uncompressed",
        "zstd",
        "delete",
        "compact",
        "compact,delete",
        " delete , compact ",
        "delete,",
        ",",
        "CreateTime",
        "createtime",
        "LogAppendTime",
        "PLAINTEXT",
        "plaintext",
        "SASL_SSL",
        "required",
        "3.9",
        "3.9-IV0",
        "3.9.2",
        "0.10.2",
        "0.10.2.1",
        "4.2",
        "2.8-IV9",
        "broker",
        "controller,broker",
        "classic,consumer",
        "upgrade",
        "0:1,2:3",
        "*",
        "*,0:1",
        "0:1,*",
        "a:b",
        "0:",
        "host:9092,host2:9092",
        "\u{e4}\t",
    ];
    let questions: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    let answers = ask("values", &questions);
    for (text, answer) in texts.iter().zip(&answers) {
        // What the voters of a KRaft quorum look like is nothing to a ZooKeeper-mode broker.
        let of_kraft = |row: &&String| row.contains("\tcontroller.quorum.");
        let theirs: BTreeSet<String> = answer.iter().filter(|row| !of_kraft(row)).cloned().collect();
        let mut ours = BTreeSet::new();
        let broker = definitions::broker_properties().filter(|property| !definitions::is_own(property.name));
        let all = broker
            .map(|property| ("value", property))
            .chain(definitions::topic_properties().map(|property| ("topic", property)));
        for (kind, property) in
            all.filter(|(_, property)| property.kind != Kind::Class && !property.name.starts_with("controller.quorum."))
        {
            if let Ok(value) = value::parse(property, text) {
                ours.insert(format!("{kind}\t{}\t{}", property.name, escaped(&value.text())));
            }
        }
        let missing: Vec<_> = theirs.difference(&ours).collect();
        let invented: Vec<_> = ours.difference(&theirs).collect();
        assert!(
            missing.is_empty() && invented.is_empty(),
            "{text:?}: Kafka accepts {missing:#?}, we accept {invented:#?}"
        );
    }
}

/// What the reference shows of a broker, from our side.
fn shown(config: &BrokerConfig) -> Result<BTreeSet<String>, ConfigError> {
    let values = topic_values::of(&values::Values { settings: &config.settings }, &BTreeMap::new())?;
    let log = LogConfig::from_values(&values);
    let mut shown: BTreeMap<String, String> =
        values.iter().map(|(name, value)| (name.to_owned(), escaped(&value.text()))).collect();
    // The broker has no say in these.
    shown.retain(|name, _| !name.ends_with(".throttled.replicas") && !name.starts_with("remote."));
    let mut show = |name: &str, value: String| shown.insert(name.to_owned(), escaped(&value));
    let endpoints = |endpoints: &[Endpoint]| {
        let text = |end: &Endpoint| format!("{} {} {} {}", end.listener, end.security_protocol, end.host, end.port);
        endpoints.iter().map(text).collect::<Vec<_>>().join(",")
    };
    let dirs: Vec<String> = config.log_dirs.iter().map(|dir| dir.display().to_string()).collect();
    show("(before max)", log.message_timestamp_before_max_ms.to_string());
    show("(after max)", log.message_timestamp_after_max_ms.to_string());
    show("(broker id)", config.broker_id.to_string());
    show("(listeners)", endpoints(&config.listeners));
    show("(advertised)", endpoints(&config.advertised_listeners));
    show("(inter broker)", config.inter_broker_listener_name.clone());
    show("(log dirs)", dirs.join(","));
    show("(connection timeout)", config.zookeeper_connection_timeout_ms.to_string());
    Ok(shown.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
}

#[test]
fn a_server_properties_gives_what_it_gives_kafka() {
    let files = include_str!("fixtures/server-properties-cases.txt");
    let files: Vec<String> = files
        .split("---\n")
        .map(|file| {
            if file.contains("zookeeper.connect=") { file.to_owned() } else { format!("zookeeper.connect=a:1\n{file}") }
        })
        .collect();
    let questions: Vec<Vec<u8>> = files.iter().map(|file| file.as_bytes().to_vec()).collect();
    let answers = ask("brokers", &questions);
    for (file, answer) in files.iter().zip(&answers) {
        let properties = Properties::parse(file.as_bytes()).expect("well formed");
        let ours = from_properties(Some((&properties, "f")), &[]).and_then(|loaded| shown(&loaded.config));
        match (ours, answer[0].strip_prefix("ok")) {
            (Ok(ours), Some(theirs)) => {
                let theirs: BTreeSet<String> = theirs.split('\t').skip(1).map(str::to_owned).collect();
                let differences: Vec<_> = ours.symmetric_difference(&theirs).collect();
                assert!(differences.is_empty(), "{file}\n{differences:#?}");
            }
            (Err(_), None) => {}
            (ours, _) => panic!("{file}\nwe: {ours:?}\nKafka: {}", answer[0]),
        }
    }
}
