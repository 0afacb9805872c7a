//! The fate of one record.

use serde::{Deserialize, Serialize};

use crate::policy::ErrorClass;

/// What a destination said of one record. One per record sent, in the order sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged, with the destination's own id where it told one.
    Succeeded {
        /// The destination's record id.
        id: Option<String>,
    },
    /// The operation did not apply, as the mode asked: update and not there, create and there.
    Skipped,
    /// Refused for a reason that sending again cannot cure.
    Rejected(Refusal),
    /// Not done; sending again may cure it.
    Retry {
        /// Why.
        refusal: Refusal,
        /// How it is sent again.
        again: Again,
    },
}

impl Outcome {
    /// Not done; sent again like any other record.
    pub const fn retry(refusal: Refusal) -> Self {
        Self::Retry { refusal, again: Again::Usual }
    }
}

/// How a record that was not done is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// Like any other record.
    Usual,
    /// In smaller batches: records of one batch were in each other's way.
    Smaller,
    /// One more time; refused if that does not help.
    Once,
}

/// Why a record was not accepted, in the destination's own words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Refusal {
    /// Our class of it.
    pub class: ErrorClass,
    /// The destination's code.
    pub code: String,
    /// The destination's message. May echo values: shown by `outflow errors`, never logged.
    pub message: String,
}

impl Refusal {
    /// A refusal of one record that sending again cannot cure.
    pub fn rejected(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { class: ErrorClass::RejectRecord, code: code.into(), message: message.into() }
    }

    /// Trouble that sending again may cure.
    pub fn transient(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { class: ErrorClass::Backoff, code: code.into(), message: message.into() }
    }
}

/// Where a planned record stands. Ordered: of two statements about one record, the greater holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// No outcome yet.
    Remaining = 0,
    /// Sent to a destination that cannot be repeated, without an answer.
    Unknown = 1,
    /// Refused for good.
    Rejected = 2,
    /// Did not apply, as the mode asked.
    Skipped = 3,
    /// Acknowledged.
    Succeeded = 4,
}

impl Status {
    /// Reads the byte that a merged chunk keeps per record.
    pub const fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Unknown,
            2 => Self::Rejected,
            3 => Self::Skipped,
            4 => Self::Succeeded,
            _ => Self::Remaining,
        }
    }
}
