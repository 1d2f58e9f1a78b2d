//! The command line: flags, properties, run, exit code.

use clap::Parser;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A native Kafka broker for ZooKeeper-mode clusters.
///
/// Without a properties file it is a broker for one machine: PLAINTEXT on localhost:9092, a ZooKeeper inside on
/// localhost:2181, logs in /tmp/kafka-logs. With one it takes the property names and defaults of Apache Kafka 3.9;
/// without zookeeper.connect in it, the ZooKeeper inside is used. RUST_LOG filters the log on stderr (default: info).
#[derive(Parser)]
#[command(name = "ottla", version)]
struct Arguments {
    /// A server.properties as Apache Kafka reads it
    #[arg(value_name = "server.properties")]
    file: Option<PathBuf>,
    /// Sets a property over the file; may be repeated
    #[arg(long = "override", value_name = "key=value")]
    overrides: Vec<String>,
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(ottla::broker::guardian::FLAG) {
        start_logging();
        return ottla::broker::guardian::run().map_or_else(|error| fail(&error.to_string()), |()| ExitCode::SUCCESS);
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(answer) if !answer.use_stderr() => {
            print!("{answer}");
            return ExitCode::SUCCESS;
        }
        Err(error) => return fail(error.to_string().lines().next().unwrap_or("wrong arguments")),
    };
    start_logging();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

/// One line, whatever went wrong.
fn fail(message: &str) -> ExitCode {
    let message = message.strip_prefix("error: ").unwrap_or(message);
    eprintln!("ottla: {}", message.replace(['\n', '\r'], " "));
    ExitCode::FAILURE
}

fn start_logging() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(ansi)
        .with_target(false)
        .init();
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let loaded = ottla::config::load(arguments.file.as_deref(), &arguments.overrides)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    ottla::broker::run(loaded.config)?;
    Ok(())
}
