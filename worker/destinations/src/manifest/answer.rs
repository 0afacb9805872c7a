//! One outcome per record from an answer. What it does not acknowledge under the manifest's words is no success.

use outflow_model::outcome::{Again, Outcome, Refusal};
use outflow_model::policy::ErrorClass;

use super::classify::of_refused;
use super::pick::{Element, Found, List, Wanted, document, pick, walk};
use super::{AnswerSpec, By, Each, KeyIs, Manifest, Success};
use crate::keys::Keys;
use crate::protocol::{Batch, Failure, Response};
use crate::text::{self, readable};

/// Slots in results, in refusals, and at the answer's top.
const KEY: usize = 0;
const CODE: usize = 1;
const MESSAGE: usize = 2;
const ID: usize = 3;
const OK: usize = 4;
const REFUSED: usize = 5;
const SLOTS: usize = 6;

/// An answer's shape, made ready.
pub(super) struct Reader {
    spec: AnswerSpec,
    top: Option<Wanted>,
    results: Wanted,
    results_without_ids: Wanted,
    refusals: Vec<Refused>,
}

/// A list of refusals, made ready.
struct Refused {
    list: String,
    each: Each,
    key_is: KeyIs,
    named: Option<String>,
    wanted: Wanted,
}

fn wanted<'a>(pointers: impl IntoIterator<Item = (usize, Option<&'a String>)>) -> Wanted {
    Wanted::of(pointers.into_iter().filter_map(|(slot, pointer)| Some((slot, pointer?.as_str()))))
}

impl Reader {
    pub(super) fn new(spec: &AnswerSpec) -> Self {
        let (code, message) = (spec.error_code.as_ref(), spec.error_message.as_ref());
        let ok = spec.ok.as_ref().map(|ok| &ok.pointer);
        let result = |id| wanted([(KEY, spec.key.as_ref()), (CODE, code), (MESSAGE, message), (ID, id), (OK, ok)]);
        let mut refusals = Vec::new();
        // A list of results tells its refusals itself.
        if let Some(list) = spec.errors.as_ref().filter(|list| spec.results.as_ref() != Some(list)) {
            let wanted = wanted([(KEY, spec.error_key.as_ref()), (CODE, code), (MESSAGE, message)]);
            let (each, key_is) = (Each::Elements, KeyIs::Text);
            refusals.push(Refused { list: list.clone(), each, key_is, named: None, wanted });
        }
        refusals.extend(spec.refusals.iter().map(|list| Refused {
            list: list.list.clone(),
            each: list.each,
            key_is: list.key_is,
            named: list.named.clone(),
            wanted: wanted([(KEY, list.key.as_ref()), (CODE, list.code.as_ref()), (MESSAGE, list.message.as_ref())]),
        }));
        let refused = (REFUSED, spec.refused.as_ref());
        let top = match spec.by {
            By::One => Some(wanted([(CODE, code), (MESSAGE, message), (ID, spec.id.as_ref()), (OK, ok), refused])),
            _ if spec.results.is_none() && ok.is_some() => {
                Some(wanted([(CODE, code), (MESSAGE, message), (OK, ok), refused]))
            }
            _ => spec.refused.is_some().then(|| wanted([refused])),
        };
        Self { spec: spec.clone(), top, results: result(spec.id.as_ref()), results_without_ids: result(None), refusals }
    }

    /// True where an answer of this status is read.
    pub(super) fn takes(&self, status: u16) -> bool {
        if self.spec.statuses.is_empty() { (200..300).contains(&status) } else { self.spec.statuses.contains(&status) }
    }

    /// What `response` says of the batch's records. Of a status that is no success it is nothing where no record is named.
    pub(super) fn read(
        &self,
        manifest: &Manifest,
        batch: &Batch<'_>,
        response: &Response,
    ) -> Option<Result<Vec<Outcome>, Failure>> {
        let read = self.outcomes(manifest, batch, response);
        if (200..300).contains(&response.status) {
            return Some(read);
        }
        let named = |outcomes: &Vec<Outcome>| {
            self.spec.results.is_some() || outcomes.iter().any(|outcome| !matches!(outcome, Outcome::Succeeded { .. }))
        };
        read.as_ref().is_ok_and(named).then_some(read)
    }

    fn outcomes(&self, manifest: &Manifest, batch: &Batch<'_>, response: &Response) -> Result<Vec<Outcome>, Failure> {
        let count = batch.rows.len();
        let silent = || Ok(vec![Outcome::Succeeded { id: None }; count]);
        let reads_nothing = self.top.is_none() && self.spec.results.is_none() && self.refusals.is_empty();
        if reads_nothing {
            return silent();
        }
        let body = readable(&response.body);
        if matches!(body.trim(), "" | "null") {
            // Where only refusals are listed, nothing at all is no refusal.
            let only_refusals = self.spec.results.is_none() && self.spec.ok.is_none() && self.spec.refused.is_none();
            return if only_refusals { silent() } else { Err(Failure::broken("The answer is empty")) };
        }
        let json = body.trim();
        self.fits(json)?;
        let unreadable = |error: serde_json::Error| Failure::broken(format!("The answer is no JSON: {error}"));
        let mut top = match &self.top {
            Some(wanted) => pick(json, wanted, SLOTS).map_err(unreadable)?,
            None => vec![Vec::new(); SLOTS],
        };
        let mut reading = Reading::new(self, manifest, batch);
        if self.spec.by == By::One || (self.spec.results.is_none() && self.spec.ok.is_some()) {
            reading.whole_answer(&mut top);
        }
        let lists = self.lists(batch);
        let walked = walk(json, &lists, |list, element, found| match self.refusals.get(list) {
            Some(list) => reading.refusal(list, element.name, found),
            None => reading.result(element, found),
        });
        if walked.map_err(unreadable)?.is_err() {
            return Err(Failure::broken("The answer has something else where a list was expected"));
        }
        reading.close(top.get(REFUSED).filter(|_| self.spec.refused.is_some()))
    }

    fn lists(&self, batch: &Batch<'_>) -> Vec<List<'_>> {
        let list = |pointer, wanted, each| List { pointer, wanted, slots: SLOTS, members: each == Each::Members };
        let refusals = self.refusals.iter().map(|refused| list(refused.list.as_str(), &refused.wanted, refused.each));
        let wanted = if batch.wants_ids { &self.results } else { &self.results_without_ids };
        refusals.chain(self.spec.results.as_deref().map(|pointer| list(pointer, wanted, self.spec.each))).collect()
    }

    /// An answer of another kind than its pointers lead through is not understood.
    fn fits(&self, json: &str) -> Result<(), Failure> {
        let pointers = self.refusals.iter().map(|refused| &refused.list).chain(&self.spec.results);
        let leads_in = |pointer: &String| {
            let part = pointer.strip_prefix('/');
            pointer.is_empty() || part.is_some_and(|part| part.starts_with(|first: char| first.is_ascii_digit()))
        };
        let takes_list = pointers.clone().any(leads_in) || pointers.count() == 0;
        match json.as_bytes().first() {
            Some(b'{') => Ok(()),
            Some(b'[') if takes_list || json.get(1..json.len() - 1).is_some_and(|inside| inside.trim().is_empty()) => {
                Ok(())
            }
            _ => Err(match document(json) {
                Ok(_) => Failure::broken("The answer is not of the kind that the manifest describes"),
                Err(error) => Failure::broken(format!("The answer is no JSON: {error}")),
            }),
        }
    }
}

/// What is known of the records while an answer is read.
struct Reading<'a> {
    reader: &'a Reader,
    manifest: &'a Manifest,
    batch: &'a Batch<'a>,
    keys: Option<Keys>,
    outcomes: Vec<Option<Outcome>>,
    /// Results so far, and those among them that have no key, with their place.
    results: usize,
    keyless: Vec<(usize, Option<Outcome>)>,
    /// A key that names no record.
    stray: Option<String>,
    /// A result says nothing: a refusal must explain it.
    is_vague: bool,
    /// A refusal that names no record.
    whole: Option<Outcome>,
    /// What a failed `ok` says, for the case that no record is named.
    not_ok: Option<Outcome>,
}

impl<'a> Reading<'a> {
    fn new(reader: &'a Reader, manifest: &'a Manifest, batch: &'a Batch<'a>) -> Self {
        let fold = manifest.object(batch.object).is_some_and(|object| object.fold_case);
        Self {
            reader,
            manifest,
            batch,
            keys: (reader.spec.by == By::Identity).then(|| Keys::of(batch, fold)),
            outcomes: vec![None; batch.rows.len()],
            results: 0,
            keyless: Vec::new(),
            stray: None,
            is_vague: false,
            whole: None,
            not_ok: None,
        }
    }

    fn place(&self, key: &str, key_is: KeyIs) -> Option<usize> {
        let count = self.batch.rows.len();
        match (&self.keys, key_is) {
            (Some(keys), KeyIs::Text) => keys.find(key),
            (None, KeyIs::Text) => key.trim().parse().ok().filter(|at| *at < count),
            (_, KeyIs::Number) => {
                let digits = key.split(|c: char| !c.is_ascii_digit()).find(|part| !part.is_empty())?;
                digits.parse().ok().filter(|at| *at < count)
            }
        }
    }

    /// Takes an outcome; a refusal holds, whatever else is said of the record.
    fn put(&mut self, at: usize, outcome: impl Into<Option<Outcome>>) {
        match (self.outcomes.get_mut(at), outcome.into()) {
            (Some(Some(known)), _) if !is_success(known) => {}
            (Some(slot), Some(outcome)) => *slot = Some(outcome),
            (Some(_), None) => {}
            (None, _) => self.stray = Some(at.to_string()),
        }
    }

    /// Takes in what the answer says at its top.
    fn whole_answer(&mut self, top: &mut Found) {
        let one = self.reader.spec.by == By::One;
        match (&self.reader.spec.ok, one) {
            (Some(ok), _) if !is_ok(ok, top) => self.not_ok = Some(self.refused(top, None)),
            (None, true) if says_refused(top) => self.whole = Some(self.refused(top, None)),
            (_, true) => self.put(0, Outcome::Succeeded { id: top.get_mut(ID).and_then(Vec::pop) }),
            _ => {}
        }
    }

    fn refusal(&mut self, list: &Refused, name: Option<&str>, found: &mut Found) {
        let outcome = self.refused(found, list.named.as_deref());
        let keys: Vec<String> = match (found.get_mut(KEY), name) {
            (Some(keys), _) if !keys.is_empty() => std::mem::take(keys),
            (_, Some(name)) => vec![name.to_owned()],
            _ => Vec::new(),
        };
        if self.reader.spec.by == By::One || self.reader.spec.by == By::All || keys.is_empty() {
            let is_vague = |known: &Outcome| matches!(known, Outcome::Rejected(refusal) if refusal.code.is_empty());
            if self.whole.as_ref().is_none_or(is_vague) {
                self.whole = Some(outcome);
            }
            return;
        }
        let places: Vec<Option<usize>> = keys.iter().map(|key| self.place(key, list.key_is)).collect();
        // Of a list of texts one has the number.
        let any = list.key_is == KeyIs::Number && places.iter().any(Option::is_some);
        for (key, place) in keys.into_iter().zip(places) {
            match place {
                Some(at) => {
                    self.put(at, outcome.clone());
                    if any {
                        return;
                    }
                }
                None if any => {}
                None => self.stray = Some(key),
            }
        }
    }

    fn result(&mut self, element: Element<'_>, found: &mut Found) {
        let at = self.results;
        self.results += 1;
        let is_vague = element.says_nothing && self.reader.spec.ok.is_none();
        self.is_vague |= is_vague;
        let refused = match &self.reader.spec.ok {
            Some(ok) => !is_ok(ok, found),
            None => says_refused(found),
        };
        let outcome = if is_vague {
            None
        } else if refused {
            Some(self.refused(found, None))
        } else {
            Some(Outcome::Succeeded { id: found.get_mut(ID).and_then(Vec::pop) })
        };
        let key = found.get(KEY).and_then(|keys| keys.first()).map(String::as_str).or(element.name);
        match key {
            _ if self.reader.spec.by == By::Position => self.put(at, outcome),
            Some(key) => match self.place(key, KeyIs::Text) {
                Some(at) => self.put(at, outcome),
                None => self.stray = Some(key.to_owned()),
            },
            None => self.keyless.push((at, outcome)),
        }
    }

    /// The outcome of a record, or of a request, that an answer refuses.
    fn refused(&self, found: &Found, named: Option<&str>) -> Outcome {
        let spec = &self.reader.spec;
        let text = |slot: usize| found.get(slot).and_then(|texts| texts.first()).map_or("", String::as_str);
        let code = if text(CODE).is_empty() { named.unwrap_or_default() } else { text(CODE) };
        let has = |codes: &[String]| codes.iter().any(|known| known == code);
        let message =
            if code.is_empty() && text(MESSAGE).is_empty() { "The answer gives no reason" } else { text(MESSAGE) };
        let (kept, message) = (text::code(code), text::message(message));
        let retry = |again| Outcome::Retry { refusal: Refusal::transient(kept.clone(), message.clone()), again };
        if has(&spec.skipped_codes) {
            Outcome::Skipped
        } else if has(&spec.transient_codes) {
            retry(Again::Usual)
        } else if has(&spec.smaller_codes) {
            retry(Again::Smaller)
        } else if has(&spec.once_codes) {
            retry(Again::Once)
        } else {
            Outcome::Rejected(Refusal::rejected(kept, message))
        }
    }

    /// One outcome per record, where the answer fits what was asked.
    fn close(mut self, told: Option<&Vec<String>>) -> Result<Vec<Outcome>, Failure> {
        let count = self.batch.rows.len();
        // In order they are told apart only where there is one for each.
        if !self.keyless.is_empty() && self.results != count {
            return Err(Failure::broken(format!("{} results, some without a key, for {count} records", self.results)));
        }
        for (at, outcome) in std::mem::take(&mut self.keyless) {
            self.put(at, outcome);
        }
        if self.stray.is_some() {
            return Err(Failure::broken("The answer names a record that was not sent"));
        }
        if let Some(whole) = self.whole_refusal() {
            return self.refused_whole(whole);
        }
        let refused = self.outcomes.iter().flatten().filter(|outcome| !is_success(outcome)).count();
        if let Some(told) = told
            && told.first().and_then(|text| text.parse().ok()) != Some(refused)
        {
            let told = told.first().map_or("no number", |_| "another number");
            return Err(Failure::broken(format!(
                "The answer names {refused} refused records, and tells {told} of them"
            )));
        }
        let silent = self.silent(refused);
        let outcomes: Option<Vec<Outcome>> =
            self.outcomes.into_iter().map(|outcome| outcome.or_else(|| silent.clone())).collect();
        let outcomes = outcomes.ok_or_else(|| {
            Failure::broken(if self.is_vague {
                "A result is null or false, and no refusal says why"
            } else {
                "The answer leaves records out"
            })
        })?;
        unless_configuration(&self.reader.spec, outcomes)
    }

    /// The refusal of all records. A failed `ok` is none where the answer names those that it refuses, says nothing else of the
    /// request, and the others may be sent again.
    fn whole_refusal(&mut self) -> Option<Outcome> {
        let Some(not_ok) = &self.not_ok else { return self.whole.take() };
        let spec = &self.reader.spec;
        let is_plain = |outcome: &Outcome| matches!(outcome, Outcome::Rejected(refusal) if !spec.config_codes.contains(&refusal.code));
        let names_one = self.outcomes.iter().flatten().any(|outcome| !is_success(outcome));
        let names_all = self.outcomes.iter().all(Option::is_some);
        let may_repeat = spec.atomic || self.manifest.repeatable(self.batch.operation);
        if names_one && self.whole.is_none() && is_plain(not_ok) && (names_all || may_repeat) {
            return None;
        }
        match not_ok {
            Outcome::Rejected(refusal) if refusal.code.is_empty() => self.whole.take().or_else(|| self.not_ok.take()),
            _ => self.not_ok.take(),
        }
    }

    /// The outcome of a record that the answer does not name. Where only refusals are listed, silence is success; where results
    /// are, or the answer as a whole is no success, it is not. Of a request that was undone nothing is acknowledged.
    fn silent(&self, refused: usize) -> Option<Outcome> {
        let spec = &self.reader.spec;
        let again = |code: &str, message: &str| {
            Some(Outcome::Retry { refusal: Refusal::transient(code, message), again: Again::Smaller })
        };
        if spec.atomic && refused > 0 {
            let acknowledges = self.outcomes.iter().flatten().any(is_success);
            return if acknowledges { None } else { again("NOT_WRITTEN", "Other records of the request were refused") };
        }
        if self.not_ok.is_some() {
            return again("NOT_ACKNOWLEDGED", "The answer refuses other records, and does not acknowledge this one");
        }
        spec.results.is_none().then_some(Outcome::Succeeded { id: None })
    }

    /// What a refusal that names no record means: that of the one record, or of all.
    fn refused_whole(self, outcome: Outcome) -> Result<Vec<Outcome>, Failure> {
        if self.batch.rows.len() == 1 {
            return unless_configuration(&self.reader.spec, vec![outcome]);
        }
        let executed = of_refused(self.manifest, self.batch);
        Err(match outcome {
            Outcome::Retry { refusal, again: Again::Usual } => Failure::Transient { after: None, executed, refusal },
            Outcome::Rejected(refusal) if self.reader.spec.config_codes.contains(&refusal.code) => {
                Failure::Config(Refusal { class: ErrorClass::FatalConfig, ..refusal })
            }
            Outcome::Rejected(refusal) | Outcome::Retry { refusal, .. } => {
                Failure::Split { executed, refusal: Refusal { class: ErrorClass::SplitBatch, ..refusal } }
            }
            Outcome::Skipped | Outcome::Succeeded { .. } => {
                let refusal = Refusal { class: ErrorClass::SplitBatch, ..Refusal::rejected("SKIPPED", "") };
                Failure::Split { executed, refusal }
            }
        })
    }
}

fn is_ok(ok: &Success, found: &Found) -> bool {
    let texts = found.get(OK).map(Vec::as_slice).unwrap_or_default();
    let is = |text: &String| ok.equals.as_ref() == Some(text) || ok.one_of.contains(text);
    !texts.is_empty() && texts.iter().all(is)
}

const fn is_success(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Succeeded { .. })
}

/// True where there is a code or a message.
fn says_refused(found: &Found) -> bool {
    [CODE, MESSAGE].iter().any(|slot| found.get(*slot).is_some_and(|texts| texts.iter().any(|text| !text.is_empty())))
}

/// The outcomes, unless each of them is of a code that no record can cure.
fn unless_configuration(spec: &AnswerSpec, outcomes: Vec<Outcome>) -> Result<Vec<Outcome>, Failure> {
    let is =
        |outcome: &Outcome| matches!(outcome, Outcome::Rejected(refusal) if spec.config_codes.contains(&refusal.code));
    match outcomes.first() {
        Some(Outcome::Rejected(refusal)) if outcomes.iter().all(is) => {
            Err(Failure::Config(Refusal { class: ErrorClass::FatalConfig, ..refusal.clone() }))
        }
        _ => Ok(outcomes),
    }
}
