//! The command line: flags, properties, run, exit code.

use clap::{Args, Parser, Subcommand};
use ottla::log::dump::{Decoder, DumpOptions, dump};
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
#[command(name = "ottla", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    /// A server.properties as Apache Kafka reads it
    #[arg(value_name = "server.properties")]
    file: Option<PathBuf>,
    /// Sets a property over the file; may be repeated
    #[arg(long = "override", value_name = "key=value")]
    overrides: Vec<String>,
    #[command(subcommand)]
    tool: Option<Tool>,
}

#[derive(Subcommand)]
enum Tool {
    Check(CheckArguments),
    Dump(DumpArguments),
}

/// Says whether a broker could start with this file and take over its log directories, without changing anything.
///
/// Looks at the properties, the log directories (ids, locks, foreign and damaged files, what would have to be recovered) and
/// ZooKeeper (cluster id, who is registered, topics). Exits with 0 if the broker could take over, with 1 if it could but something
/// needs a look, with 2 if it could not.
#[derive(Args)]
struct CheckArguments {
    /// A server.properties as Apache Kafka reads it
    #[arg(value_name = "server.properties")]
    file: PathBuf,
    /// Sets a property over the file; may be repeated
    #[arg(long = "override", value_name = "key=value")]
    overrides: Vec<String>,
}

/// Shows what is in the files of a log directory, as kafka-dump-log does.
///
/// Takes .log, .index, .timeindex, .txnindex and .snapshot files, the checkpoints, partition.metadata and meta.properties. Exits
/// with 1 if something is wrong with a file, and says what on stderr.
#[derive(Args)]
struct DumpArguments {
    /// Files to show
    #[arg(value_name = "FILE")]
    paths: Vec<PathBuf>,
    /// The same, as kafka-dump-log takes them
    #[arg(long, value_delimiter = ',', value_name = "file1,file2")]
    files: Vec<PathBuf>,
    /// Shows each record, with key and value
    #[arg(long)]
    print_data_log: bool,
    /// Shows each record
    #[arg(long)]
    deep_iteration: bool,
    /// Shows keys and values only
    #[arg(long)]
    skip_record_metadata: bool,
    /// Checks indexes as a broker does at start, without showing them
    #[arg(long)]
    index_sanity_check: bool,
    /// Holds indexes against their log, without showing them
    #[arg(long)]
    verify_index_only: bool,
    /// Leaves out what lies beyond so many bytes of a .log file
    #[arg(long, value_name = "bytes")]
    max_bytes: Option<u64>,
    /// Takes the records for those of __consumer_offsets
    #[arg(long, conflicts_with = "transaction_log_decoder")]
    offsets_decoder: bool,
    /// Takes the records for those of __transaction_state
    #[arg(long)]
    transaction_log_decoder: bool,
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
    match &arguments.tool {
        Some(Tool::Dump(arguments)) => return run_dump(arguments),
        Some(Tool::Check(CheckArguments { file, overrides })) => {
            let report = ottla::broker::check::check(file, overrides);
            print!("{report}");
            return ExitCode::from(report.exit_code());
        }
        None => {}
    }
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

fn run_dump(arguments: &DumpArguments) -> ExitCode {
    let files: Vec<PathBuf> = arguments.paths.iter().chain(&arguments.files).cloned().collect();
    if files.is_empty() {
        return fail("name the files to dump, for example /tmp/kafka-logs/topic-0/00000000000000000000.log");
    }
    let decoder = match arguments {
        DumpArguments { offsets_decoder: true, .. } => Decoder::Offsets,
        DumpArguments { transaction_log_decoder: true, .. } => Decoder::Transactions,
        _ => Decoder::Text,
    };
    let options = DumpOptions {
        print_data_log: arguments.print_data_log || decoder != Decoder::Text,
        deep_iteration: arguments.deep_iteration,
        skip_record_metadata: arguments.skip_record_metadata,
        index_sanity_check: arguments.index_sanity_check,
        verify_index_only: arguments.verify_index_only,
        max_bytes: arguments.max_bytes.unwrap_or(u64::MAX),
        decoder,
    };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    match dump(&files, &options, &mut out, &mut std::io::stderr()) {
        Ok(true) => ExitCode::SUCCESS,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(&error.to_string()),
    }
}
