//! ApiVersions (KIP-35, KIP-511): what this broker speaks.

use super::{Services, table};
use crate::base::ErrorCode;
use crate::wire::messages::api_versions_response::ApiVersion;
use crate::wire::messages::{ApiVersionsRequest, ApiVersionsResponse};
use crate::wire::{Outcome, Reply, Request, WireError};
use std::sync::Arc;

pub const KEY: i16 = 18;
const VERSION_MAX: i16 = 4;

pub fn handle(_services: &Arc<Services>, mut request: Request) -> Result<Outcome, WireError> {
    if !(0..=VERSION_MAX).contains(&request.header.version) {
        // A client newer than us reads this as version 0 and tries again with what we have.
        request.header.version = 0;
        let response = ApiVersionsResponse::default()
            .with_error_code(ErrorCode::UnsupportedVersion.code())
            .with_api_keys(vec![ApiVersion::default().with_api_key(KEY).with_max_version(VERSION_MAX)]);
        return Ok(Reply::message(&request.header, &response)?.into());
    }
    let body: ApiVersionsRequest = request.decode()?;
    if request.header.version >= 3
        && !(is_software_word(&body.client_software_name) && is_software_word(&body.client_software_version))
    {
        let response = ApiVersionsResponse::default().with_error_code(ErrorCode::InvalidRequest.code());
        return Ok(Reply::message(&request.header, &response)?.into());
    }
    let api_keys = table::APIS
        .iter()
        .map(|api| {
            ApiVersion::default()
                .with_api_key(api.key)
                .with_min_version(*api.versions.start())
                .with_max_version(*api.versions.end())
        })
        .collect();
    let mut response = ApiVersionsResponse::default().with_api_keys(api_keys);
    if request.header.version >= 3 {
        // `/feature` has no finalized features in ZooKeeper mode; its epoch is that of a node nobody rewrites.
        response.finalized_features_epoch = 0;
    }
    Ok(Reply::message(&request.header, &response)?.into())
}

/// `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`
fn is_software_word(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    first.is_ascii_alphanumeric()
        && last.is_ascii_alphanumeric()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-' || *byte == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names_follow_kip_511() {
        for (text, expected) in [
            ("librdkafka", true),
            ("a", true),
            ("2.12.1-rc", true),
            ("", false),
            ("-a", false),
            ("a b", false),
            ("a.", false),
        ] {
            assert_eq!(is_software_word(text), expected, "{text:?}");
        }
    }
}
