//! What the transaction coordinator answers.

use super::message::{InitResponse, Response};
use crate::base::ErrorCode;
use crate::coordinator::{self, kinds};

/// Here already, or held until an append ends.
pub type Answer<T> = coordinator::Answer<T, Response>;

kinds!(Response {
    Init => InitResponse,
    Done => ErrorCode,
});
