//! The classes of errors, their stable codes, and what a user can do: one table, no default arm. What Outflow does by
//! itself is the worker's delivery loop, documented beside each code.

use serde::{Deserialize, Serialize};

/// Why a delivery did not succeed. A closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// Credentials expired; a fresh token may cure it.
    RefreshAuth,
    /// Trouble that time cures: 5xx, network, lock.
    Backoff,
    /// The account's rate limit.
    Throttled,
    /// The account's daily quota.
    Quota,
    /// The destination refuses this record.
    RejectRecord,
    /// The destination refuses the whole request, and one record may be why.
    SplitBatch,
    /// Credentials, permissions, object or field are wrong.
    FatalConfig,
    /// Sent, no answer, and sending again could do harm.
    Unknown,
    /// The answer does not fit what was asked; nothing can be concluded from it.
    BrokenAnswer,
    /// A user cancelled the run before the record had an outcome.
    Cancelled,
}

impl ErrorClass {
    /// Every class.
    pub const ALL: [Self; 10] = [
        Self::RefreshAuth,
        Self::Backoff,
        Self::Throttled,
        Self::Quota,
        Self::RejectRecord,
        Self::SplitBatch,
        Self::FatalConfig,
        Self::Unknown,
        Self::BrokenAnswer,
        Self::Cancelled,
    ];

    /// The stable code, documented in `docs/errors.md`.
    pub const fn code(self) -> &'static str {
        match self {
            Self::RefreshAuth => "OF-3001",
            Self::FatalConfig => "OF-3002",
            Self::Backoff => "OF-1001",
            Self::Throttled => "OF-1002",
            Self::Quota => "OF-1003",
            Self::BrokenAnswer => "OF-1004",
            Self::Cancelled => "OF-1005",
            Self::RejectRecord => "OF-2001",
            Self::SplitBatch => "OF-2002",
            Self::Unknown => "OF-4001",
        }
    }

    /// What a user can do about it, in one sentence.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::RefreshAuth => "Check the destination's credentials with `outflow check`, then run again.",
            Self::Backoff => {
                "Nothing to do: the next run sends these records again. If it stays, look at the destination's status page."
            }
            Self::Cancelled => "Nothing to do: the next run finds these records, and sends those that still differ.",
            Self::Throttled => {
                "Nothing to do: the next run sends what is left. Where waits are too long for a run, raise `delivery.max_wait_seconds`; to keep a share for other users of the account, set `reserve: 40%`."
            }
            Self::Quota => {
                "Wait until the quota is renewed or raise it with the vendor; the next run sends what is left."
            }
            Self::RejectRecord => {
                "Correct the row in the warehouse or the mapping: it is sent again when either changes, or with `outflow retry`."
            }
            Self::SplitBatch => "Nothing to do: the request was halved until the refused records stood alone.",
            Self::FatalConfig => {
                "Correct the credentials, the object or the field that the message names, run `outflow check`, then run again."
            }
            Self::Unknown => {
                "Look at the destination whether it arrived, then decide with `outflow unknown SYNC --sent` or `--resend`."
            }
            Self::BrokenAnswer => {
                "The destination's answer was not understood: the next run sends these records again. If it stays, report it with the code."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_unique_and_each_is_documented() {
        let codes: BTreeSet<_> = ErrorClass::ALL.iter().map(|class| class.code()).collect();
        assert_eq!(codes.len(), ErrorClass::ALL.len());
        let page = include_str!("../../../docs/errors.md");
        for class in ErrorClass::ALL {
            assert!(page.contains(&format!("## {}", class.code())), "{} is missing in docs/errors.md", class.code());
            assert!(page.contains(class.remedy()), "the remedy of {} is missing in docs/errors.md", class.code());
        }
    }
}
