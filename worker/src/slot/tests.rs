use outflow_backends::{MemoryLimiter, SystemClock};
use outflow_model::limit::{Cause, Limits, Unit, Window};
use outflow_model::port::ledger::Quotas;
use outflow_model::port::{PortError, Trouble};

use super::*;

const MINUTE: Micros = 60_000_000;

/// Nothing was used, and nothing is kept; or it cannot be said.
struct Unused(bool);

#[async_trait]
impl Quotas for Unused {
    async fn daily(&self, _account: &str, _day: i64) -> port::Result<u64> {
        Ok(0)
    }

    async fn set_daily(&self, _account: &str, _day: i64, _used: u64) -> port::Result<()> {
        if self.0 { Ok(()) } else { Err(PortError::new(Trouble::Unavailable, "no ledger")) }
    }
}

/// An account that allows so many requests a day, and one at a time.
struct Desk {
    limiter: Arc<dyn Limiter>,
    limits: Limits,
    late: Arc<Late>,
    asked: u64,
}

impl Desk {
    fn of(daily: u64) -> Self {
        Self::over(daily, Unused(true))
    }

    fn over(daily: u64, quotas: Unused) -> Self {
        let limiter = Arc::new(MemoryLimiter::new(Arc::new(SystemClock::default()), Arc::new(quotas)));
        let limits = Limits { in_flight: Some(1), daily: Some(daily), ..Limits::default() };
        Self { limiter, limits, late: Arc::default(), asked: 0 }
    }

    /// Asks once.
    async fn ask(&mut self) -> (Slot, port::Result<Verdict>) {
        self.asked += 1;
        let mut slot = Slot::new(&self.limiter, "crm", &self.late, self.asked);
        let question = Permit {
            account: "crm",
            limits: &self.limits,
            attempt: None,
            worker: "",
            slot: 0,
            lease: 0,
            timeout: MINUTE,
            records: 1,
            cost: 1,
            urgent: false,
            sync: "s",
            weight: 1,
            late: 0,
        };
        let verdict = slot.ask(&question).await;
        (slot, verdict)
    }

    /// Asks once more, after what was dropped has given its place back, which happens beside what goes on.
    async fn next(&mut self) -> (Slot, Verdict) {
        tokio::task::yield_now().await;
        let (slot, verdict) = self.ask().await;
        (slot, verdict.expect("a limiter in memory answers"))
    }

    /// A slot whose request may leave.
    async fn permitted(&mut self) -> Slot {
        let (slot, verdict) = self.next().await;
        assert!(verdict.is_go(), "{verdict:?}");
        slot
    }

    /// Whether the next request finds the day used up.
    async fn is_used_up(&mut self) -> bool {
        matches!(self.next().await.1, Verdict::Later { cause: Cause::Daily, .. })
    }
}

/// As if that much time had passed since.
fn aged(slot: &mut Slot, by: Micros) {
    slot.permit.0 = slot.permit.0.checked_sub(Duration::from_micros(by as u64)).expect("a moment before");
}

#[async_trait]
impl Permits for &mut Desk {
    async fn permit(&mut self) -> Option<Slot> {
        let (slot, verdict) = self.next().await;
        verdict.is_go().then_some(slot)
    }

    fn signer(&self) -> (&Credentials, i64) {
        unreachable!("nothing is signed")
    }
}

#[tokio::test]
async fn slot_that_is_dropped_before_it_left_gives_its_place_and_its_request_back() {
    let mut desk = Desk::of(1);
    drop(desk.permitted().await);
    // Place and day's request are there again.
    drop(desk.permitted().await);
    drop(desk.permitted().await);
}

#[tokio::test]
async fn slot_that_is_dropped_after_it_left_gives_its_place_back_alone() {
    let mut desk = Desk::of(1);
    let mut slot = desk.permitted().await;
    assert!(matches!(desk.ask().await.1, Ok(Verdict::Later { .. })));
    slot.left();
    drop(slot);
    assert!(desk.is_used_up().await, "what was sent counts");
}

#[tokio::test]
async fn slot_that_was_ended_gives_nothing_back_again() -> port::Result<()> {
    let mut desk = Desk::of(2);
    desk.permitted().await.end(Ended::Sent).await?;
    let mut other = desk.permitted().await;
    other.left();
    other.end(Ended::Sent).await?;
    assert!(desk.is_used_up().await);
    Ok(())
}

#[tokio::test]
async fn slot_that_left_is_not_used_twice() {
    let mut desk = Desk::of(2);
    let slot = Some(desk.permitted().await);
    let mut ticket = Ticket { permits: &mut desk, slot, request: None };
    assert!(ticket.may_leave().await && ticket.may_leave().await, "a permit is good until its request has left");
    ticket.left();
    assert!(ticket.may_leave().await);
    let number = ticket.slot.as_ref().map(|slot| slot.number);
    assert!(number > Some(1), "another request took the first one's permit");
    ticket.left();
    assert!(!ticket.may_leave().await, "two requests have left on a day that allows two");
}

#[tokio::test]
async fn request_that_would_leave_too_late_takes_a_new_permit_and_gives_the_first_one_back() {
    // The second permit is there only once the first is given back as unsent.
    let mut desk = Desk::of(1);
    let mut slot = desk.permitted().await;
    let within = slot.permit.1;
    aged(&mut slot, within / 2);
    assert!(slot.is_good(), "there is time left");
    aged(&mut slot, within);
    assert!(!slot.is_good());
    let mut ticket = Ticket { permits: &mut desk, slot: Some(slot), request: None };
    assert!(ticket.may_leave().await);
    assert!(ticket.slot.as_ref().is_some_and(|slot| slot.number > 1 && slot.is_good()));
}

#[tokio::test]
async fn request_without_another_permit_does_not_leave() {
    let mut desk = Desk::of(1);
    let mut sent = desk.permitted().await;
    sent.left();
    let mut ticket = Ticket { permits: &mut desk, slot: Some(sent), request: None };
    assert!(!ticket.may_leave().await && ticket.slot.is_none());
}

#[tokio::test]
async fn request_that_was_never_permitted_does_not_leave() {
    let mut desk = Desk::of(1);
    let never = Slot::new(&desk.limiter, "crm", &desk.late, 9);
    assert!(!never.is_good());
    let held = desk.permitted().await;
    let (refused, verdict) = desk.ask().await;
    assert!(!verdict.is_ok_and(|verdict| verdict.is_go()) && !refused.is_good());
    assert_eq!(refused.dropped, None, "it has no place to give back");
    drop(held);
}

#[tokio::test]
async fn request_without_an_answer_gives_back_what_it_may_have_been_given() {
    let mut desk = Desk::over(1, Unused(false));
    let (slot, verdict) = desk.ask().await;
    assert!(verdict.is_err() && !slot.is_good());
    assert_eq!(slot.dropped, Some(Ended::Unsent));
}

#[tokio::test]
async fn limiter_is_told_once_how_late_requests_have_left() {
    let mut desk = Desk::of(9);
    let mut slot = desk.permitted().await;
    aged(&mut slot, 70_000);
    slot.left();
    drop(slot);
    assert!(desk.late.0.load(Ordering::Relaxed) >= 70_000);
    // Windows make up for it: a permit is good for so much longer.
    let before = desk.limits.usable(0);
    let next = desk.permitted().await;
    assert!(next.permit.1 >= before + 70_000, "{} us", next.permit.1);
    assert!(desk.late.0.load(Ordering::Relaxed) < 70_000, "it is told again");
    let late = desk.limits.usable(0) + MINUTE;
    let mut next = next;
    aged(&mut next, late);
    assert!(!next.is_good());
    assert!(desk.late.0.load(Ordering::Relaxed) >= late, "what would have left too late is told as well");
}

#[tokio::test]
async fn permit_that_was_waited_for_is_good_from_its_moment_on() {
    let mut desk = Desk::of(9);
    desk.limits.windows = vec![Window { unit: Unit::Requests, limit: 1, per_ms: 100 }];
    drop(desk.permitted().await);
    let began = Instant::now();
    let slot = desk.permitted().await;
    assert!(slot.permit.0 > began && slot.permit.0 <= Instant::now(), "it counts the wait twice, or not at all");
}
