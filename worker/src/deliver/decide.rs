//! What to do about a request that did not succeed.

use outflow_destinations::{Executed, Failure};
use outflow_model::outcome::Refusal;
use outflow_model::policy::ErrorClass;

use super::PASSES;
use crate::transport::{Departure, NoAnswer};

/// What a decision rests on beside the failure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation {
    /// The operation may be sent twice.
    pub(super) repeatable: bool,
    /// The last request may have changed something at the destination.
    pub(super) may_have_acted: bool,
    /// There is a durable state to go on from.
    pub(super) is_durable: bool,
    /// The request was of one record.
    pub(super) is_one: bool,
    /// How often the group failed before.
    pub(super) troubles: u32,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Directive {
    /// The records are unknown, and not sent again.
    Unknown,
    /// Pause the account, then send the same request again.
    Pause,
    /// Wait for the next day.
    NextDay,
    /// The next pass sends the records again.
    NextPass,
    /// Go on from the durable state after a while.
    Resume,
    /// Give what is left back, with its durable state.
    HandBack,
    /// Stop the run.
    Stop,
    /// The one record is refused.
    Reject,
    /// Send the records in two halves.
    Halve,
}

/// Decides about a failure. What may have been carried out is not sent again where that could do harm.
pub(super) fn decide(failure: &Failure, situation: Situation) -> Directive {
    if !situation.repeatable && situation.may_have_acted && failure.executed() == Executed::Unknown {
        return Directive::Unknown;
    }
    match failure {
        Failure::Throttled { .. } => Directive::Pause,
        Failure::Quota { .. } => Directive::NextDay,
        Failure::Transient { .. } | Failure::Broken(_) if !situation.is_durable => Directive::NextPass,
        Failure::Transient { .. } | Failure::Broken(_) if situation.troubles + 1 >= PASSES => Directive::HandBack,
        Failure::Transient { .. } | Failure::Broken(_) => Directive::Resume,
        Failure::Unauthorized(_) | Failure::Config(_) => Directive::Stop,
        Failure::Split { .. } if situation.is_one => Directive::Reject,
        Failure::Split { .. } => Directive::Halve,
    }
}

/// The failure of a request without an answer.
pub(super) fn failure_of(lost: NoAnswer) -> Failure {
    let NoAnswer { departure, reason } = lost;
    let transient = |executed, message: String| {
        let refusal = Refusal::transient("NO_ANSWER", message);
        Failure::Transient { after: None, executed, refusal }
    };
    match departure {
        Departure::Impossible => {
            let (class, code) = (ErrorClass::FatalConfig, "IMPOSSIBLE_REQUEST".to_owned());
            Failure::Config(Refusal { class, code, message: reason })
        }
        Departure::Unsent => transient(Executed::No, reason),
        Departure::Unknown => transient(Executed::Unknown, format!("Sent, but no answer came ({reason})")),
    }
}

/// The destination's words.
pub(super) fn refusal_of(failure: Failure) -> Refusal {
    match failure {
        Failure::Throttled { refusal, .. }
        | Failure::Quota { refusal }
        | Failure::Transient { refusal, .. }
        | Failure::Unauthorized(refusal)
        | Failure::Split { refusal, .. }
        | Failure::Config(refusal)
        | Failure::Broken(refusal) => refusal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal() -> Refusal {
        Refusal::transient("", "")
    }

    fn failures() -> [(&'static str, Failure); 9] {
        let transient = |executed| Failure::Transient { after: None, executed, refusal: refusal() };
        let split = |executed| Failure::Split { executed, refusal: refusal() };
        [
            ("throttled", Failure::Throttled { after: None, refusal: refusal() }),
            ("quota", Failure::Quota { refusal: refusal() }),
            ("transient", transient(Executed::No)),
            ("transient, perhaps executed", transient(Executed::Unknown)),
            ("unauthorized", Failure::Unauthorized(refusal())),
            ("split", split(Executed::No)),
            ("split, perhaps executed", split(Executed::Unknown)),
            ("config", Failure::Config(refusal())),
            ("broken", Failure::Broken(refusal())),
        ]
    }

    #[test]
    fn every_failure_is_decided_about_in_every_situation() {
        use Directive::{Halve, HandBack, NextDay, NextPass, Pause, Reject, Resume, Stop, Unknown};
        let usual = Situation { repeatable: true, may_have_acted: true, is_durable: false, is_one: false, troubles: 0 };
        let create = Situation { repeatable: false, ..usual };
        let job = Situation { is_durable: true, ..usual };
        for (situation, decided) in [
            (usual, [Pause, NextDay, NextPass, NextPass, Stop, Halve, Halve, Stop, NextPass]),
            (
                Situation { is_one: true, ..usual },
                [Pause, NextDay, NextPass, NextPass, Stop, Reject, Reject, Stop, NextPass],
            ),
            (job, [Pause, NextDay, Resume, Resume, Stop, Halve, Halve, Stop, Resume]),
            (
                Situation { troubles: PASSES - 1, ..job },
                [Pause, NextDay, HandBack, HandBack, Stop, Halve, Halve, Stop, HandBack],
            ),
            (create, [Pause, NextDay, NextPass, Unknown, Stop, Halve, Unknown, Stop, Unknown]),
            (
                Situation { is_one: true, ..create },
                [Pause, NextDay, NextPass, Unknown, Stop, Reject, Unknown, Stop, Unknown],
            ),
            (
                Situation { may_have_acted: false, ..create },
                [Pause, NextDay, NextPass, NextPass, Stop, Halve, Halve, Stop, NextPass],
            ),
        ] {
            for ((name, failure), decided) in failures().into_iter().zip(decided) {
                assert_eq!(decide(&failure, situation), decided, "{name} in {situation:?}");
            }
        }
    }

    #[test]
    fn a_request_that_can_never_be_sent_is_a_wrong_configuration() {
        let of = |departure| failure_of(NoAnswer { departure, reason: "why".to_owned() });
        assert!(
            matches!(of(Departure::Impossible), Failure::Config(refusal) if refusal.class == ErrorClass::FatalConfig)
        );
        assert_eq!(of(Departure::Unsent).executed(), Executed::No);
        assert_eq!(of(Departure::Unknown).executed(), Executed::Unknown);
    }
}
