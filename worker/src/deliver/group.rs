//! One group of records: a destination's steps, one after the other, until each record has its outcome.

use outflow_destinations::{Batch, Event, Failure, Request, Step};
use outflow_model::cell::DAY;
use outflow_model::limit::Micros;
use outflow_model::outcome::{Outcome, Refusal, Status};
use outflow_model::policy::ErrorClass;
use outflow_model::port::Trouble;
use outflow_model::port::limiter::Claimed;
use outflow_model::text::with_causes;
use outflow_model::wire::{ChunkV1, Next, ParkedV1, ReportV1, VERSION};
use tracing::{debug, warn};

use super::decide::{Directive, Situation, decide, failure_of, refusal_of};
use super::request::HOLD;
use super::{BACKOFF, Delivery, Group, Stop, Tools};
use crate::auth::NoToken;
use crate::transport::Added;

/// A login that was not answered is tried again after what the records have waited so far, within these bounds.
const LOGIN_AGAIN: [Micros; 2] = [2_000_000, 60_000_000];
/// A pause where the destination names none.
const DEFAULT_PAUSE: Micros = 1_000_000;
/// What was announced is not handed back before this: it would have to be announced anew, and might again take too long over that.
const ANNOUNCED: Micros = 600_000_000;

/// A request that a destination wants to send, and what it goes on with.
struct Ask {
    request: Request,
    state: Vec<u8>,
    checkpoint: bool,
}

impl Ask {
    fn into_step(self) -> Step {
        Step::Send { request: self.request, state: self.state, checkpoint: self.checkpoint }
    }
}

/// How a group has gone so far.
#[derive(Default)]
struct Course {
    /// Its token was renewed.
    renewed: bool,
    /// How often it failed, and was throttled.
    troubles: u32,
    throttled: u32,
    /// The last request may have changed something there.
    may_have_acted: bool,
    /// The last request that was answered.
    sent: Option<Ask>,
}

type Stepped = Result<Step, Failure>;

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

/// How long the destination asks to wait.
const fn asked(failure: &Failure) -> Option<Micros> {
    match failure {
        Failure::Throttled { after, .. } | Failure::Transient { after, .. } => *after,
        Failure::Quota { .. }
        | Failure::Unauthorized(_)
        | Failure::Split { .. }
        | Failure::Config(_)
        | Failure::Broken(_) => None,
    }
}

/// The records, and what they go on with.
fn parked(rows: &[u32], state: Vec<u8>) -> ParkedV1 {
    ParkedV1 { version: VERSION, rows: rows.to_vec(), state }
}

impl Delivery<'_> {
    /// Delivers one group. What must be sent in smaller groups goes to the front of the groups.
    pub(super) async fn group(&mut self, group: Group) -> Result<(), Stop> {
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
        self.held = durable.map(|state| parked(&rows, state));
        let mut course = Course::default();
        let mut step = match &self.held {
            Some(held) => account.destination.resume(&batch, &held.state, Event::Elapsed),
            None => account.destination.start(&batch),
        };
        loop {
            let failure = match step {
                Ok(Step::Send { request, state, checkpoint }) => {
                    step = self.exchange(&batch, Ask { request, state, checkpoint }, &mut course).await?;
                    continue;
                }
                Ok(Step::Wait { after, state }) => {
                    let (parked, class) = (Some(parked(&rows, state)), ErrorClass::Backoff);
                    return Err(Stop::Next(Next::Again { after, counted: false, parked, class }));
                }
                Ok(Step::Done(outcomes)) => match counted(outcomes, rows.len()) {
                    Ok(outcomes) => {
                        self.held = None;
                        self.book.done(&rows, outcomes);
                        return Ok(());
                    }
                    Err(failure) => failure,
                },
                Err(failure) => failure,
            };
            let directive = decide(&failure, self.situation(&rows, &course));
            let Some(next) = self.follow(directive, failure, &batch, &mut course).await? else { return Ok(()) };
            step = next;
        }
    }

    fn situation(&self, rows: &[u32], course: &Course) -> Situation {
        Situation {
            repeatable: self.chunk.repeatable,
            may_have_acted: course.may_have_acted,
            is_durable: self.held.is_some(),
            is_one: rows.len() == 1,
            troubles: course.troubles,
        }
    }

    /// Sends a request, and asks the destination what its answer means.
    async fn exchange(&mut self, batch: &Batch<'_>, ask: Ask, course: &mut Course) -> Result<Stepped, Stop> {
        let (rows, Ask { request, state, checkpoint }) = (batch.rows, &ask);
        let mut added = self.credentials(rows).await?;
        let slot = self.permit(rows.len(), request.cost, HOLD).await?;
        // Announced last: what was announced either leaves or is unknown.
        if *checkpoint {
            self.announce(rows, state).await?;
            self.held = self.chunk.repeatable.then(|| parked(rows, state.clone()));
        }
        let patience = if *checkpoint { ANNOUNCED } else { HOLD };
        let answer = self.send(request, &mut added, (slot, rows.len()), patience).await;
        let lost_for_good = matches!(&answer, Ok(Err(lost)) if lost.may_have_arrived() && request.method != "GET");
        course.may_have_acted = lost_for_good || (matches!(answer, Ok(Ok(_))) && request.method != "GET");
        if !lost_for_good || self.chunk.repeatable {
            // It was answered, or does not leave.
            self.resolve(*checkpoint);
        }
        let response = match answer? {
            Ok(response) => response,
            Err(lost) => return Ok(Err(failure_of(lost))),
        };
        if response.status == 401 && !course.renewed && self.account.credentials.renew(added.generation).await {
            course.renewed = true;
            return Ok(Ok(ask.into_step()));
        }
        let next = self.account.destination.resume(batch, state, Event::Answer(&response));
        course.sent = Some(ask);
        Ok(next)
    }

    /// What credentials add to a request of these records.
    async fn credentials(&mut self, rows: &[u32]) -> Result<Added, Stop> {
        let now = self.tools.clock.now() / 1_000_000;
        let (class, message) = match self.authorise(now).await? {
            Ok(added) => return Ok(added),
            // Each other group would only ask for one again.
            Err(NoToken::Later { reason, after }) => {
                self.book.note(rows, Refusal::transient("NO_TOKEN", reason));
                let waited = self.chunk.waited + self.book.report.waits;
                let usual = waited.clamp(LOGIN_AGAIN[0], LOGIN_AGAIN[1]);
                let after = after.map_or(usual, |asked| asked.max(LOGIN_AGAIN[0]));
                return Err(self.wait_for(after, false, ErrorClass::Backoff));
            }
            Err(NoToken::Refused(reason)) => (ErrorClass::RefreshAuth, reason),
            Err(NoToken::Unreachable(reason)) => (ErrorClass::FatalConfig, reason),
        };
        Err(Stop::Next(Next::Stop { refusal: Refusal { class, code: "NO_TOKEN".to_owned(), message } }))
    }

    /// Does what was decided about a failure; the next step, where there is one.
    async fn follow(
        &mut self,
        directive: Directive,
        failure: Failure,
        batch: &Batch<'_>,
        course: &mut Course,
    ) -> Result<Option<Stepped>, Stop> {
        let (rows, destination) = (batch.rows, self.account.destination.as_ref());
        let asked = asked(&failure);
        let refusal = refusal_of(failure);
        match directive {
            Directive::Unknown => {
                self.book.mark(rows, Status::Unknown, Refusal { class: ErrorClass::Unknown, ..refusal });
            }
            Directive::Halve => {
                self.held = None;
                let (first, second) = rows.split_at(rows.len() / 2);
                for half in [second, first] {
                    self.groups.push_front(Group { rows: half.to_vec(), bulk: batch.bulk, durable: None });
                }
            }
            Directive::Reject => {
                self.held = None;
                self.book.mark(rows, Status::Rejected, Refusal { class: ErrorClass::RejectRecord, ..refusal });
            }
            Directive::NextPass => {
                self.rest = asked.unwrap_or(0).max(self.rest);
                self.book.retry(rows, refusal);
            }
            Directive::Stop => {
                let refusal = self.book.discreet(rows, refusal);
                return Err(Stop::Next(Next::Stop { refusal }));
            }
            Directive::NextDay => {
                self.book.note(rows, refusal);
                let after = DAY - self.tools.clock.now().rem_euclid(DAY);
                return Err(self.wait_for(after, false, ErrorClass::Quota));
            }
            Directive::Pause => {
                self.book.note(rows, refusal);
                self.throttled(asked, course).await?;
                // The very request that was refused is sent again.
                let again = course.sent.take().map(Ask::into_step);
                return Ok(Some(again.map_or_else(|| destination.start(batch), Ok)));
            }
            Directive::HandBack | Directive::Resume => {
                course.troubles += 1;
                let (class, asked) = (refusal.class, asked.unwrap_or(0));
                self.book.note(rows, refusal);
                if directive == Directive::HandBack {
                    return Err(self.wait_for(self.hand_back().max(asked), true, class));
                }
                self.back_off(course.troubles, asked, class).await?;
                let state = self.held.as_ref().map(|held| held.state.clone()).unwrap_or_default();
                return Ok(Some(destination.resume(batch, &state, Event::Elapsed)));
            }
        }
        Ok(None)
    }

    /// Pauses the account for as long as the destination asks.
    async fn throttled(&mut self, asked: Option<Micros>, course: &mut Course) -> Result<(), Stop> {
        course.throttled += 1;
        // Who says "at once" again and again is not asked that often.
        let often = course.throttled > 1;
        let least = if often { BACKOFF.after(course.throttled, 0).as_micros() as Micros } else { 1_000 };
        let pause = asked.unwrap_or(DEFAULT_PAUSE).max(least);
        debug!(account = self.account.name, pause_ms = pause / 1_000, "The destination asks for a pause");
        self.pause(pause).await
    }

    /// Reports what is about to be sent and waits until that is durable.
    async fn announce(&mut self, rows: &[u32], state: &[u8]) -> Result<(), Stop> {
        // What is known so far goes with it: a later start goes on from there alone.
        let mut report = ReportV1 { requests: 0, waited: 0, ..self.book.known(Next::Continue) };
        if self.chunk.repeatable {
            report.checkpoint = Some(parked(rows, state.to_vec()));
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
                warn!(
                    error = with_causes(&error),
                    "The limiter cannot be told of a pause; what is left is handed back until its end"
                );
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
    use super::*;
    use crate::samples::chunk;

    #[test]
    fn outcomes_that_are_not_one_per_record_conclude_nothing() {
        assert!(counted(vec![Outcome::Skipped; 2], 2).is_ok());
        for count in [0, 1, 3] {
            assert!(matches!(counted(vec![Outcome::Skipped; count], 2), Err(Failure::Broken(_))), "{count}");
        }
    }

    #[test]
    fn a_request_that_is_sent_again_has_the_token_that_it_had() {
        assert_eq!(token(&chunk(1), &[0, 1]), token(&chunk(2), &[0, 1]));
        assert_ne!(token(&chunk(1), &[0, 1]), token(&chunk(1), &[0]));
        assert_ne!(token(&chunk(1), &[0]), token(&ChunkV1 { object: String::new(), ..chunk(1) }, &[1]));
    }
}
