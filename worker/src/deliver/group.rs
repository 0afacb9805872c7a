//! One group of records: a destination's steps, one after the other, until each record has its outcome.

use std::collections::VecDeque;

use outflow_destinations::{Batch, Event, Executed, Failure, Step};
use outflow_model::limit::Micros;
use outflow_model::outcome::{Outcome, Refusal, Status};
use outflow_model::policy::ErrorClass;
use outflow_model::port::Trouble;
use outflow_model::port::limiter::Claimed;
use outflow_model::wire::{ChunkV1, Next, ParkedV1, ReportV1, VERSION};
use tracing::{debug, warn};

use super::request::HOLD;
use super::{BACKOFF, Delivery, Group, PASSES, Stop, Tools};
use crate::auth::NoToken;

/// A login that was not answered is tried again after what the records have waited so far, within these bounds.
const LOGIN_AGAIN: [Micros; 2] = [2_000_000, 60_000_000];
/// A pause where the destination names none.
const DEFAULT_PAUSE: Micros = 1_000_000;
/// What was announced is not handed back before this: it would have to be announced anew, and might again take too long over that.
const ANNOUNCED: Micros = 600_000_000;

/// Names a request's records; the same when they are sent again, another for any other set of records.
fn token(chunk: &ChunkV1, rows: &[u32]) -> String {
    // FNV-1a: the token must be the same in every version.
    let digest = rows
        .iter()
        .flat_map(|row| row.to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |digest, byte| (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{}-{}-{digest:016x}", chunk.id.run, chunk.id.chunk)
}

/// The outcomes, where there is one per record.
fn counted(outcomes: Vec<Outcome>, records: usize) -> Result<Vec<Outcome>, Failure> {
    if outcomes.len() == records {
        return Ok(outcomes);
    }
    let message = format!("{} outcomes for {records} records", outcomes.len());
    Err(Failure::Broken(Refusal { class: ErrorClass::BrokenAnswer, code: "BROKEN_ANSWER".to_owned(), message }))
}

/// The destination's words.
const fn refusal_of(failure: &Failure) -> &Refusal {
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

impl Delivery<'_> {
    /// Delivers one group. What must be sent in smaller groups goes to the front of `groups`.
    pub(super) async fn group(&mut self, group: Group, groups: &mut VecDeque<Group>) -> Result<(), Stop> {
        let Group { rows, bulk, durable } = group;
        let token = token(self.chunk, &rows);
        let (chunk, account) = (self.chunk, self.account);
        let batch = Batch {
            operation: chunk.operation,
            object: &chunk.object,
            table: self.table,
            rows: &rows,
            settings: &account.settings,
            token: &token,
            wants_ids: chunk.wants_ids,
            bulk,
        };
        let destination = account.destination.as_ref();
        let parked = |state: Vec<u8>| ParkedV1 { version: VERSION, rows: rows.clone(), state };
        self.held = durable.map(parked);
        let (mut renewed, mut troubles, mut throttled) = (false, 0, 0);
        // Whether what was sent was answered, and may have changed something there; and the step that sent it.
        let (mut answered, mut sent) = (false, None);
        let mut step = match &self.held {
            Some(held) => destination.resume(&batch, &held.state, Event::Elapsed),
            None => destination.start(&batch),
        };
        loop {
            step = match step {
                Ok(Step::Done(outcomes)) => match counted(outcomes, rows.len()) {
                    Ok(outcomes) => {
                        self.held = None;
                        self.book.done(&rows, outcomes);
                        return Ok(());
                    }
                    Err(failure) => Err(failure),
                },
                Err(failure) if !chunk.repeatable && answered && failure.executed() == Executed::Unknown => {
                    let refusal = Refusal { class: ErrorClass::Unknown, ..refusal_of(&failure).clone() };
                    self.book.mark(&rows, Status::Unknown, &refusal);
                    return Ok(());
                }
                Ok(Step::Wait { after, state }) => {
                    let (parked, class) = (Some(parked(state)), ErrorClass::Backoff);
                    return Err(Stop::Next(Next::Again { after, counted: false, parked, class }));
                }
                Ok(Step::Send { request, state, checkpoint }) => {
                    let now = self.tools.clock.now() / 1_000_000;
                    let mut added = match self.authorise(now).await? {
                        Ok(added) => added,
                        // Each other group would only ask for one again.
                        Err(NoToken::Later(reason)) => {
                            self.book.note(&rows, &Refusal::transient("NO_TOKEN", reason));
                            let waited = chunk.waited + self.book.report.waits;
                            let after = waited.clamp(LOGIN_AGAIN[0], LOGIN_AGAIN[1]);
                            return Err(self.wait_for(after, false, ErrorClass::Backoff));
                        }
                        Err(NoToken::Refused(reason)) => {
                            let code = "NO_TOKEN".to_owned();
                            let refusal = Refusal { class: ErrorClass::RefreshAuth, code, message: reason };
                            return Err(Stop::Next(Next::Stop { refusal }));
                        }
                    };
                    let slot = self.permit(rows.len(), request.cost, HOLD).await?;
                    // Announced last: what was announced either leaves or is unknown.
                    if checkpoint {
                        self.announce(&rows, &state).await?;
                        self.held = chunk.repeatable.then(|| parked(state.clone()));
                    }
                    let patience = if checkpoint { ANNOUNCED } else { HOLD };
                    let answer = self.send(&request, &mut added, (slot, rows.len()), patience).await;
                    if answer.is_err() {
                        // It does not leave.
                        self.resolve(checkpoint);
                    }
                    match answer? {
                        Ok(response) => {
                            answered = request.method != "GET";
                            self.resolve(checkpoint);
                            if response.status == 401 && !renewed && account.credentials.renew(added.generation).await {
                                renewed = true;
                                Ok(Step::Send { request, state, checkpoint })
                            } else {
                                let next = destination.resume(&batch, &state, Event::Answer(&response));
                                sent = Some(Step::Send { request, state, checkpoint });
                                next
                            }
                        }
                        Err(lost) if lost.may_have_arrived && !chunk.repeatable && request.method != "GET" => {
                            let message = format!("Sent, but no answer came ({})", lost.reason);
                            let refusal = Refusal { class: ErrorClass::Unknown, code: "NO_ANSWER".to_owned(), message };
                            self.book.mark(&rows, Status::Unknown, &refusal);
                            return Ok(());
                        }
                        Err(lost) => {
                            self.resolve(checkpoint);
                            answered = false;
                            let refusal = Refusal::transient("NO_ANSWER", lost.reason);
                            Err(Failure::Transient { after: None, executed: Executed::No, refusal })
                        }
                    }
                }
                Err(Failure::Throttled { after, refusal }) => {
                    throttled += 1;
                    self.book.note(&rows, &refusal);
                    // Who says "at once" again and again is not asked that often.
                    let least = if throttled > 1 { BACKOFF.after(throttled, 0).as_micros() as Micros } else { 1_000 };
                    let pause = after.unwrap_or(DEFAULT_PAUSE).max(least);
                    debug!(account = account.name, pause_ms = pause / 1_000, "The destination asks for a pause");
                    self.pause(pause).await?;
                    // The very request that was refused is sent again.
                    sent.take().map_or_else(|| destination.start(&batch), Ok)
                }
                Err(Failure::Quota { refusal }) => {
                    self.book.note(&rows, &refusal);
                    let day = 86_400_000_000;
                    let after = day - self.tools.clock.now().rem_euclid(day);
                    return Err(self.wait_for(after, false, ErrorClass::Quota));
                }
                Err(failure @ (Failure::Transient { .. } | Failure::Broken(_))) => {
                    troubles += 1;
                    let asked = if let Failure::Transient { after: Some(after), .. } = failure { after } else { 0 };
                    let refusal = refusal_of(&failure).clone();
                    let Some(held) = self.held.as_ref().map(|held| held.state.clone()) else {
                        self.rest = asked.max(self.rest);
                        self.book.retry(&rows, &refusal);
                        return Ok(());
                    };
                    self.book.note(&rows, &refusal);
                    if troubles >= PASSES {
                        return Err(self.wait_for(self.hand_back().max(asked), true, refusal.class));
                    }
                    self.back_off(troubles, asked, refusal.class).await?;
                    destination.resume(&batch, &held, Event::Elapsed)
                }
                Err(Failure::Unauthorized(refusal) | Failure::Config(refusal)) => {
                    let refusal = self.book.discreet(&rows, refusal);
                    return Err(Stop::Next(Next::Stop { refusal }));
                }
                Err(Failure::Split { refusal, .. }) => {
                    self.held = None;
                    if let [_] = rows.as_slice() {
                        let refusal = Refusal { class: ErrorClass::RejectRecord, ..refusal };
                        self.book.mark(&rows, Status::Rejected, &refusal);
                    } else {
                        let (first, second) = rows.split_at(rows.len() / 2);
                        groups.push_front(Group { rows: second.to_vec(), bulk, durable: None });
                        groups.push_front(Group { rows: first.to_vec(), bulk, durable: None });
                    }
                    return Ok(());
                }
            };
        }
    }

    /// Reports what is about to be sent and waits until that is durable.
    async fn announce(&mut self, rows: &[u32], state: &[u8]) -> Result<(), Stop> {
        // What is known so far goes with it: a later start goes on from there alone.
        let mut report = ReportV1 { requests: 0, waited: 0, ..self.book.known(Next::Continue) };
        if self.chunk.repeatable {
            report.checkpoint = Some(ParkedV1 { version: VERSION, rows: rows.to_vec(), state: state.to_vec() });
        } else {
            self.intents += 1;
            report.intents = vec![(self.intents, rows.to_vec())];
        }
        self.tools.report(&report).await?;
        // That may have taken its time. Whoever has the chunk by now has been told of this request, and not of its answer.
        let Tools { limiter, lease, .. } = self.tools;
        let claim = limiter.announced(&self.account.name, &self.chunk.id, self.holder, *lease, self.intents).await;
        if !matches!(claim, Ok(Claimed::Mine)) {
            // It does not leave.
            self.resolve(true);
        }
        match claim? {
            Claimed::Mine => Ok(()),
            Claimed::Ungranted => Err(Stop::Next(Next::Returned)),
            _ => Err(Stop::Next(Next::Continue)),
        }
    }

    /// Pauses the account. Where the limiter cannot be told, what is left is handed back for as long, which is no try.
    async fn pause(&mut self, pause: Micros) -> Result<(), Stop> {
        match self.tools.limiter.pause(&self.account.name, pause).await {
            Err(error) if error.trouble == Trouble::Unavailable => {
                warn!(%error, "The limiter cannot be told of a pause; what is left is handed back until its end");
                Err(self.wait_for(pause, false, ErrorClass::Throttled))
            }
            told => told.map_err(Stop::from),
        }
    }

    /// The answer to the last announced request is known.
    fn resolve(&mut self, announced: bool) {
        if announced && !self.chunk.repeatable {
            self.book.report.resolved.push(self.intents);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use outflow_model::change::Operation;
    use outflow_model::id::{AttemptId, RunId};
    use outflow_model::limit::Limits;
    use outflow_model::wire::AccountV1;

    use super::*;

    #[test]
    fn outcomes_that_are_not_one_per_record_conclude_nothing() {
        assert!(counted(vec![Outcome::Skipped; 2], 2).is_ok());
        for count in [0, 1, 3] {
            assert!(matches!(counted(vec![Outcome::Skipped; count], 2), Err(Failure::Broken(_))), "{count}");
        }
    }

    #[test]
    fn a_request_that_is_sent_again_has_the_token_that_it_had() {
        let chunk = |attempt| ChunkV1 {
            version: VERSION,
            id: AttemptId { run: RunId::new(1, 1), chunk: 3, attempt },
            sync: "s".to_owned(),
            weight: 1,
            urgent: false,
            account: AccountV1 {
                name: "crm".to_owned(),
                kind: "http".to_owned(),
                manifest: None,
                base_url: None,
                settings: BTreeMap::new(),
                allow_private_addresses: false,
                timeout_ms: 1,
                allow_plain_http: false,
                proxy: None,
                ca: None,
                limits: Limits::default(),
            },
            object: "events".to_owned(),
            operation: Operation::Append,
            repeatable: false,
            wants_ids: false,
            bulk: false,
            rows: 2,
            only: None,
            tries: attempt,
            waited: 0,
            max_wait: 0,
            parked: None,
            traceparent: None,
            payload: Vec::new(),
        };
        assert_eq!(token(&chunk(1), &[0, 1]), token(&chunk(2), &[0, 1]));
        assert_ne!(token(&chunk(1), &[0, 1]), token(&chunk(1), &[0]));
        assert_ne!(token(&chunk(1), &[0]), token(&ChunkV1 { object: String::new(), ..chunk(1) }, &[1]));
    }
}
