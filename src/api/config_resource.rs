//! What DescribeConfigs, AlterConfigs and IncrementalAlterConfigs share: resources, their dynamic configs, refusals.

use super::Services;
use crate::base::{BrokerId, ErrorCode};
use crate::config::alter::{self, AlterError, Subject};
use crate::config::describe::Dynamic;
use crate::zookeeper::paths::{ConfigEntity, EntityConfig};
use crate::zookeeper::{ZkError, configs};

/// Resource types on the wire.
pub const TOPIC: i8 = 2;
pub const BROKER: i8 = 4;
pub const BROKER_LOGGER: i8 = 8;

/// Why one resource of a request is not served; the others are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    pub code: ErrorCode,
    pub message: String,
}

impl Refusal {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Refusal {
        Refusal { code, message: message.into() }
    }

    pub fn request(message: impl Into<String>) -> Refusal {
        Refusal::new(ErrorCode::InvalidRequest, message)
    }

    pub fn repeated() -> Refusal {
        Refusal::request("the resource is named twice in the request")
    }

    pub fn unknown_topic(topic: &str) -> Refusal {
        Refusal::new(ErrorCode::UnknownTopicOrPartition, format!("topic {topic} does not exist"))
    }
}

impl From<AlterError> for Refusal {
    fn from(error: AlterError) -> Refusal {
        let code = match error {
            AlterError::Config(_) => ErrorCode::InvalidConfig,
            AlterError::Request(_) => ErrorCode::InvalidRequest,
        };
        Refusal::new(code, error.to_string())
    }
}

impl From<ZkError> for Refusal {
    fn from(error: ZkError) -> Refusal {
        tracing::warn!(%error, "configs of a resource");
        Refusal::new(ErrorCode::UnknownServerError, error.to_string())
    }
}

/// A broker serves its own configs and those of all brokers, which have the empty name.
pub fn broker_subject(own_id: BrokerId, name: &str) -> Result<Subject, Refusal> {
    if name.is_empty() {
        return Ok(Subject::BrokerDefaults);
    }
    match name.parse::<i32>() {
        Ok(id) if id == own_id.0 => Ok(Subject::Broker),
        Ok(id) => Err(Refusal::request(format!("this is broker {own_id}, not {id}: ask that one"))),
        Err(_) => Err(Refusal::request(format!("broker id {name:?} is not a number"))),
    }
}

pub async fn dynamic_of(services: &Services, entity: &ConfigEntity) -> Result<Dynamic, Refusal> {
    Ok(configs::read(&services.zookeeper, entity).await?.0)
}

/// Error code and message of how the change of a resource ended.
pub fn ended(outcome: &Result<(), Refusal>) -> (i16, Option<&str>) {
    match outcome {
        Ok(()) => (ErrorCode::None.code(), None),
        Err(refusal) => (refusal.code.code(), Some(&refusal.message)),
    }
}

/// Who the configs belong to, if they can be changed here.
pub fn alterable(services: &Services, kind: i8, name: &str) -> Result<(Subject, ConfigEntity), Refusal> {
    match kind {
        TOPIC if name.is_empty() => Err(Refusal::request("topics have no default resource")),
        TOPIC if !services.metadata.image().topics.contains_key(name) => Err(Refusal::unknown_topic(name)),
        TOPIC => Ok((Subject::Topic, ConfigEntity::Topic(name.to_owned()))),
        BROKER => {
            let id = services.replicas.local();
            let subject = broker_subject(id, name)?;
            Ok((subject, ConfigEntity::Broker((subject == Subject::Broker).then_some(id))))
        }
        other => Err(Refusal::request(format!("configs of resource type {other} cannot be changed"))),
    }
}

/// Checks what `entity` shall have, writes it, and tells all brokers.
pub async fn write(
    services: &Services,
    subject: Subject,
    entity: &ConfigEntity,
    altered: Dynamic,
    validate_only: bool,
) -> Result<(), Refusal> {
    match subject {
        Subject::Topic => alter::check_topic(&services.config, &altered)?,
        Subject::Broker | Subject::BrokerDefaults => alter::check_broker(subject, &altered)?,
    }
    if !validate_only {
        configs::write(&services.zookeeper, entity, &EntityConfig(altered)).await?;
        tracing::info!(%entity, "configs changed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_speaks_for_itself_and_for_all() {
        assert_eq!(broker_subject(BrokerId(3), ""), Ok(Subject::BrokerDefaults));
        assert_eq!(broker_subject(BrokerId(3), "3"), Ok(Subject::Broker));
        for name in ["4", "x", "-", "99999999999"] {
            assert_eq!(broker_subject(BrokerId(3), name).expect_err(name).code, ErrorCode::InvalidRequest);
        }
    }
}
