//! What properties must not say of each other (`KafkaConfig.validateValues`).

use super::error::ConfigError;
use super::values::Values;

/// Checks everything that is set together. Checks of properties that Ottla does not act on are left out.
pub fn check(values: &Values) -> Result<(), ConfigError> {
    broker_id(values)?;
    log_times(values)?;
    queue(values)?;
    offsets_codec(values)?;
    cleaner(values)
}

/// Fails with what `name` must be, said of the value it has.
fn require(values: &Values, holds: bool, name: &str, allowed: &str) -> Result<(), ConfigError> {
    if holds {
        return Ok(());
    }
    let value = values.optional_text(name)?.unwrap_or_default();
    Err(values.settings.locate(name, ConfigError::bad_value(name, &value, allowed)))
}

fn broker_id(values: &Values) -> Result<(), ConfigError> {
    let name = if values.is_set("node.id") && !values.is_set("broker.id") { "node.id" } else { "broker.id" };
    let id = values.int(name)?;
    if values.boolean("broker.id.generation.enable")? {
        let highest = values.int("reserved.broker.max.id")?;
        let allowed = format!("-1 (generated) or up to reserved.broker.max.id={highest}");
        require(values, (-1..=highest).contains(&id), name, &allowed)
    } else {
        require(values, id >= 0, name, "0 or more, since broker.id.generation.enable=false")
    }
}

fn log_times(values: &Values) -> Result<(), ConfigError> {
    for (name, least) in [("log.roll.ms", 1), ("log.roll.jitter.ms", 0)] {
        let value = values.optional_whole(name)?;
        require(values, value.is_none_or(|value| value >= least), name, &format!("{least} or more"))?;
    }
    for name in ["log.retention.ms", "log.retention.minutes", "log.retention.hours"] {
        if let Some(value) = values.optional_whole(name)? {
            return require(values, value != 0, name, "-1 (for ever) or 1 or more");
        }
    }
    Ok(())
}

fn queue(values: &Values) -> Result<(), ConfigError> {
    let name = "queued.max.request.bytes";
    let (queued, largest) = (values.whole(name)?, values.whole("socket.request.max.bytes")?);
    require(values, queued <= 0 || queued >= largest, name, "-1 or at least socket.request.max.bytes")
}

fn offsets_codec(values: &Values) -> Result<(), ConfigError> {
    let name = "offsets.topic.compression.codec";
    require(values, (0..=4).contains(&values.int(name)?), name, "0 (none), 1 (gzip), 2 (snappy), 3 (lz4) or 4 (zstd)")
}

fn cleaner(values: &Values) -> Result<(), ConfigError> {
    let name = "log.cleaner.dedupe.buffer.size";
    let (buffer, threads) = (values.whole(name)?, values.whole("log.cleaner.threads")?);
    let enough = buffer.checked_div(threads).is_none_or(|each| each > 1 << 20);
    require(values, enough, name, "more than 1 MiB for each of log.cleaner.threads")
}
