//! UpdateFeatures (KIP-584): a broker in ZooKeeper mode supports no feature, so that there is nothing to finalize.

use super::Services;
use crate::base::ErrorCode;
use crate::wire::messages::update_features_request::FeatureUpdateKey;
use crate::wire::messages::update_features_response::UpdatableFeatureResult;
use crate::wire::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};
use crate::wire::{Outcome, Reply, Request, WireError, text};
use std::sync::Arc;

/// First version whose updates have a type instead of a flag.
const UPGRADE_TYPES: i16 = 1;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: UpdateFeaturesRequest = request.decode()?;
    let response = match services.controller.is_active() {
        true => response(&body, request.header.version),
        false => UpdateFeaturesResponse::default().with_error_code(ErrorCode::NotController.code()),
    };
    Ok(Reply::message(&request.header, &response)?.into())
}

fn response(body: &UpdateFeaturesRequest, version: i16) -> UpdateFeaturesResponse {
    let refused = |update: &FeatureUpdateKey| {
        UpdatableFeatureResult::default()
            .with_feature(update.feature.clone())
            .with_error_code(ErrorCode::InvalidRequest.code())
            .with_error_message(Some(text(reason(update, version))))
    };
    UpdateFeaturesResponse::default().with_results(body.feature_updates.iter().map(refused).collect())
}

fn reason(update: &FeatureUpdateKey, version: i16) -> &'static str {
    let is_typed = version < UPGRADE_TYPES || (1..=3).contains(&update.upgrade_type);
    if update.feature.is_empty() {
        "A feature has to be named."
    } else if !is_typed {
        "The type of the upgrade is not known."
    } else if update.max_version_level < 1 {
        "The feature is not finalized, and cannot be deleted."
    } else {
        "The feature is not supported by this cluster."
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode;

    #[test]
    fn every_update_is_refused() {
        let update = FeatureUpdateKey::default().with_feature(text("f")).with_max_version_level(1);
        let body = UpdateFeaturesRequest::default().with_feature_updates(vec![update]);
        for version in 0..=1 {
            let answer = response(&body, version);
            assert_eq!(answer.results[0].error_code, 42);
            assert!(encode(&answer, version).is_ok());
        }
    }
}
