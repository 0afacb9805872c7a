//! One request: its permit and its answer.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use metrics::histogram;
use outflow_destinations::{Request, Response};
use outflow_model::limit::{Cause, Micros};
use outflow_model::policy::ErrorClass;
use outflow_model::port::Trouble;
use outflow_model::port::limiter::{Claimed, Ended, Request as Permit, Verdict};
use outflow_model::text::with_causes;
use outflow_model::wire::Next;
use tracing::field::Empty;
use tracing::{Instrument, Span, info_span, warn};

use super::{Delivery, Stop, Tools};
use crate::account::Account;
use crate::auth::{Credentials, NoToken};
use crate::figures;
use crate::slot::{PLACE_SPARE, Permits, Slot, Ticket};
use crate::transport::{ANSWER_CAP, Added, BULK_ANSWER_CAP, NoAnswer};

/// A worker holds a chunk no longer than this for a limit; then it hands back what is left.
pub(super) const HOLD: Micros = 30_000_000;
/// A limiter that is away is asked again after so long.
const AWAY: Duration = Duration::from_millis(500);
/// What a run may not send for now is asked for again after so long.
const CLOSED: Micros = 1_000_000;
/// So many requests of a chunk are in its run's trace: viewers fail at tens of thousands of spans.
const RECORDED: u32 = 20;

/// Tells whether a request waits for what the destination has asked for; else it only waits for its turn.
const fn waits_for_time(cause: Cause) -> bool {
    matches!(cause, Cause::Paused | Cause::Daily)
}

/// Permits of a delivery's requests.
struct OfDelivery<'d, 'a> {
    delivery: &'d mut Delivery<'a>,
    records: usize,
    cost: u64,
    /// How long another permit is waited for.
    patience: Micros,
    /// Why there is none.
    stop: Option<Stop>,
}

#[async_trait]
impl Permits for OfDelivery<'_, '_> {
    async fn permit(&mut self) -> Option<Slot> {
        let permitted = self.delivery.permit(self.records, self.cost, self.patience).await;
        permitted.map_err(|stop| self.stop = Some(stop)).ok()
    }

    fn signer(&self) -> (&Credentials, i64) {
        let Delivery { account, tools, .. } = &*self.delivery;
        (&account.credentials, tools.clock.now() / 1_000_000)
    }
}

impl<'a> Delivery<'a> {
    /// The limiter is asked for this.
    fn question(&self, records: usize, cost: u64) -> Permit<'a> {
        let (chunk, account) = (self.chunk, self.account);
        Permit {
            account: &account.name,
            limits: &account.limits,
            attempt: Some(&chunk.id),
            worker: self.holder,
            slot: self.tools.clock.entropy(),
            late: 0,
            lease: self.tools.lease,
            timeout: account.timeout + PLACE_SPARE,
            records: records as u64,
            cost,
            urgent: chunk.urgent,
            sync: &chunk.sync,
            weight: chunk.weight,
        }
    }

    /// Waits until the next request may leave, for no longer than `patience`.
    pub(super) async fn permit(&mut self, records: usize, cost: u64, patience: Micros) -> Result<Slot, Stop> {
        let question = self.question(records, cost);
        let (mut held, began) = (0, Instant::now());
        let mut slot = Slot::new(&self.tools.limiter, &self.account.name, &self.account.late, question.slot);
        loop {
            // What is booked for later may be far off.
            let verdict = tokio::select! {
                biased;
                () = self.tools.drained() => return Err(self.hand_over(0, ErrorClass::Backoff)),
                verdict = slot.ask(&question) => verdict,
            };
            match verdict {
                Ok(Verdict::Go { .. }) => {
                    histogram!("outflow_limiter_wait_seconds", "lane" => self.account.name.clone())
                        .record(began.elapsed());
                    return Ok(slot);
                }
                Ok(Verdict::Later { wait, cause }) => {
                    self.hold(wait, cause, patience - held).await?;
                    held += wait;
                }
                Ok(Verdict::Lost) => return Err(self.lost().await),
                Ok(Verdict::Closed) => return Err(self.hand_over(CLOSED, ErrorClass::Backoff)),
                // Nothing leaves without a permit: handed back, the records would only wait elsewhere.
                Err(error) if error.trouble == Trouble::Unavailable => {
                    self.tools.tell_away(&error);
                    self.tools.sleep(AWAY).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits before a request is asked for again; hands back what is left where that is longer than `patience`.
    async fn hold(&mut self, wait: Micros, cause: Cause, patience: Micros) -> Result<(), Stop> {
        let for_time = waits_for_time(cause);
        if for_time && wait > self.patience().min(patience) {
            let class = if cause == Cause::Daily { ErrorClass::Quota } else { ErrorClass::Throttled };
            return Err(self.wait_for(wait, false, class));
        }
        if wait > patience {
            return Err(self.hand_over(wait, ErrorClass::Throttled));
        }
        self.book.report.waited += wait;
        if for_time {
            self.book.report.waits += wait;
        }
        self.tools.sleep(Duration::from_micros(wait.max(100) as u64)).await;
        Ok(())
    }

    /// What credentials add to a request. A login is permitted as every request is: it leaves only while the run's gate is open
    /// and this delivery holds the chunk, and it counts.
    pub(super) async fn authorise(&mut self, now: i64) -> Result<Result<Added, NoToken>, Stop> {
        let Account { credentials, transport, .. } = self.account;
        let slot = if credentials.must_log_in().await { Some(self.permit(0, 1, HOLD).await?) } else { None };
        let permits = OfDelivery { delivery: self, records: 0, cost: 1, patience: HOLD, stop: None };
        let mut ticket = Ticket { permits, slot, request: None };
        let added = credentials.add(transport, now, &mut ticket).await;
        ticket.permits.stop.map_or(Ok(added), Err)
    }

    fn span(&self, request: &Request) -> Span {
        info_span!(
            "request",
            otel.kind = "client",
            http.request.method = request.method,
            server.address = self.account.transport.host(),
            account = self.account.name,
            chunk = self.chunk.id.chunk,
            attempt = self.chunk.id.attempt,
            http.response.status_code = Empty,
            error.type = Empty,
            otel.status_code = Empty
        )
    }

    /// The attempt is not this delivery's any more. Whoever has it tells of its end; of one that the limiter has forgotten this
    /// delivery does.
    async fn lost(&self) -> Stop {
        let Tools { limiter, lease, .. } = self.tools;
        match limiter.announced(&self.account.name, &self.chunk.id, self.holder, *lease, self.intents).await {
            Ok(Claimed::Ungranted) => Stop::Next(Next::Returned),
            Ok(_) => Stop::Next(Next::Continue),
            Err(error) => Stop::Port(error),
        }
    }

    /// What is left is published again later, which is no try.
    pub(super) fn hand_over(&mut self, after: Micros, class: ErrorClass) -> Stop {
        Stop::Next(Next::Again { after, counted: false, parked: self.held.take(), class })
    }

    /// Sends a permitted request; where it would leave too late, it waits for another permit for no longer than `patience`.
    pub(super) async fn send(
        &mut self,
        request: &Request,
        added: &mut Added,
        (slot, records): (Slot, usize),
        patience: Micros,
    ) -> Result<Result<Response, NoAnswer>, Stop> {
        let span = if self.book.report.requests < RECORDED { self.span(request) } else { Span::none() };
        let (began, transport) = (Instant::now(), &self.account.transport);
        let cap = if self.chunk.bulk { BULK_ANSWER_CAP } else { ANSWER_CAP };
        let permits = OfDelivery { delivery: self, records, cost: request.cost, patience, stop: None };
        let mut ticket = Ticket { permits, slot: Some(slot), request: Some(request) };
        let sent = transport.send(request, added, cap, &mut ticket).instrument(span.clone()).await;
        let Ticket { permits, slot, .. } = ticket;
        if let Some(stop) = permits.stop {
            return Err(stop);
        }
        let sent = sent.map(|response| Response { arrived: self.tools.clock.now(), ..response });
        let lane = self.account.name.clone();
        histogram!("outflow_api_request_seconds", "lane" => lane.clone()).record(began.elapsed());
        let answer = match &sent {
            Ok(response) => format!("{}xx", response.status / 100),
            Err(_) => "none".to_owned(),
        };
        figures::count_request(&lane, &answer, 1);
        if sent.as_ref().is_ok_and(|response| response.status == 429) {
            figures::throttled(&lane).increment(1);
        }
        let ended = match &sent {
            Err(lost) if !lost.may_have_arrived() => Ended::Unsent,
            _ => Ended::Sent,
        };
        // An answer is worth more than its bookkeeping: the place lapses by itself.
        if let Some(slot) = slot
            && let Err(error) = slot.end(ended).await
        {
            warn!(error = with_causes(&error), "A request's place could not be given back");
        }
        self.book.report.requests += 1;
        let wrong = match &sent {
            Ok(response) => (response.status >= 400).then(|| response.status.to_string()),
            Err(_) => Some("no_answer".to_owned()),
        };
        if let Some(wrong) = wrong {
            span.record("error.type", wrong).record("otel.status_code", "error");
        }
        if let Ok(response) = &sent {
            span.record("http.response.status_code", response.status);
            if let Err(error) = self.learn(response).await {
                warn!(error = with_causes(&error), "What an answer tells of the account's limits could not be learned");
            }
        }
        Ok(sent)
    }
}
