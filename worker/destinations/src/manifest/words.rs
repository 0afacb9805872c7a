//! The words of `[[classify]]` and `answer`: what statuses and bodies mean.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

/// A status or a body that means something else than usual. The first rule that applies holds.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Classify {
    /// The statuses, successful ones too; any where absent.
    #[serde(default)]
    pub status: Vec<u16>,
    /// Only where the value at this JSON pointer into the body…
    #[serde(default)]
    pub pointer: Option<String>,
    /// …is this one…
    #[serde(default, deserialize_with = "scalar")]
    #[schemars(with = "Option<Scalar>")]
    pub equals: Option<String>,
    /// …or one of these…
    #[serde(default, deserialize_with = "scalars")]
    #[schemars(with = "Vec<Scalar>")]
    pub one_of: Vec<String>,
    /// …or begins with this…
    #[serde(default)]
    pub begins: Option<String>,
    /// …or is there at all: not null, nor an empty text, list or object. False: is not there.
    #[serde(default)]
    pub present: Option<bool>,
    /// What such an answer means.
    pub class: Verdict,
    /// False: a request that was answered so was certainly not carried out, so that even one that is not repeatable is sent
    /// again.
    #[serde(default)]
    pub executed: Option<bool>,
}

/// What an answer means for the request as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Done, for every record; of a status that is no success for the one record of the request, of several it is halved.
    Succeeded,
    /// It did not apply, as the mode asked: update of what is not there, create of what is. As above.
    Skipped,
    /// The credentials ended: they are renewed once, then the run stops.
    RefreshAuth,
    /// Trouble that time cures.
    Backoff,
    /// Too fast: the account pauses.
    Throttled,
    /// The day's quota is used up.
    Quota,
    /// The record is refused; of several records, as `split_batch`.
    RejectRecord,
    /// The request is refused, and one of its records may be why: it is halved until the bad ones stand alone.
    SplitBatch,
    /// Credentials, permissions, object or field are wrong: the run stops.
    FatalConfig,
    /// Nobody knows; as `backoff`, and for what is not repeatable unknown.
    Unknown,
    /// The answer does not fit: nothing can be concluded from it.
    BrokenAnswer,
}

impl Verdict {
    /// True where `executed` says something that the class does not.
    pub const fn may_be_executed(self) -> bool {
        matches!(self, Self::Backoff | Self::Unknown | Self::RejectRecord | Self::SplitBatch)
    }
}

/// What an answer says of the records. Values are given as JSON pointers; those within records begin at the record.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AnswerSpec {
    /// How records are told apart in the answer.
    pub by: By,
    /// The statuses that are read as answers; every 2xx where absent.
    pub statuses: Vec<u16>,
    /// The list of records that succeeded, or of all records.
    pub results: Option<String>,
    /// What the results are: a list's elements, or an object's members, by name.
    pub each: Each,
    /// In a result: what tells which record it is; by its place where it has none.
    pub key: Option<String>,
    /// In a result: the destination's record id.
    pub id: Option<String>,
    /// What makes a result a success; where there are no `results`, what makes the answer one. Else it is a refusal: of the records
    /// that the answer names, else of all.
    pub ok: Option<Success>,
    /// The list of refusals: the short form of one of `refusals`.
    pub errors: Option<String>,
    /// In a refusal: what tells which record, or which records, it is about.
    pub error_key: Option<String>,
    /// In a refusal, or in a result that is one: the code.
    pub error_code: Option<String>,
    /// In a refusal, or in a result that is one: the message.
    pub error_message: Option<String>,
    /// Lists of refusals.
    pub refusals: Vec<Refusals>,
    /// How many records the answer says were refused; where it names another number, it is not understood.
    pub refused: Option<String>,
    /// All or nothing: a request that is refused wrote nothing, and where an answer names refusals and acknowledges no record,
    /// records that it does not name go again.
    pub atomic: bool,
    /// Codes that mean that the operation did not apply, as the mode asked.
    pub skipped_codes: Vec<String>,
    /// Codes that time may cure.
    pub transient_codes: Vec<String>,
    /// Codes of records that were in each other's way: they go again in smaller requests.
    pub smaller_codes: Vec<String>,
    /// Codes that one more try may cure.
    pub once_codes: Vec<String>,
    /// Codes that no record can cure: where every record has one, the run stops.
    pub config_codes: Vec<String>,
}

/// A list of refusals.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Refusals {
    /// The list.
    pub list: String,
    /// What it is: a list's elements, or an object's members, whose names are keys.
    pub each: Each,
    /// What tells which record, or which records, a refusal is about; `""` is the element itself. Where it is absent, the
    /// request is refused as a whole.
    pub key: Option<String>,
    /// How the key is read.
    pub key_is: KeyIs,
    /// The code.
    pub code: Option<String>,
    /// A code for every refusal of this list, where it tells none.
    pub named: Option<String>,
    /// The message.
    pub message: Option<String>,
}

/// What a list is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Each {
    /// A list, and its elements.
    #[default]
    Elements,
    /// An object, and its members.
    Members,
}

/// How a key is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyIs {
    /// As it is.
    #[default]
    Text,
    /// The first whole number in the text, or in one of a list's: `changes[3].amount` is record 3, from 0.
    Number,
}

/// What makes a result a success.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Success {
    /// The value at this JSON pointer…
    pub pointer: String,
    /// …is this one…
    #[serde(default, deserialize_with = "scalar")]
    #[schemars(with = "Option<Scalar>")]
    pub equals: Option<String>,
    /// …or one of these.
    #[serde(default, deserialize_with = "scalars")]
    #[schemars(with = "Vec<Scalar>")]
    pub one_of: Vec<String>,
}

/// How records are told apart in an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// Not at all: a successful answer is success for all records.
    #[default]
    All,
    /// The answer is the one record's.
    One,
    /// By the number that `$index` gave each record.
    Index,
    /// By the record's identity.
    Identity,
    /// By order: the list of results has one element per record; one with a code or message is a refusal.
    Position,
}

impl By {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::One => "one",
            Self::Index => "index",
            Self::Identity => "identity",
            Self::Position => "position",
        }
    }
}

/// A value that is compared by its text.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "Write a text, true, false or a whole number")]
enum Scalar {
    /// A text.
    Text(String),
    /// True or false.
    Bool(bool),
    /// A number.
    Number(i64),
}

impl Scalar {
    fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Bool(value) => value.to_string(),
            Self::Number(value) => value.to_string(),
        }
    }
}

fn scalar<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Scalar::deserialize(deserializer).map(|scalar| Some(scalar.text()))
}

fn scalars<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Vec::<Scalar>::deserialize(deserializer).map(|scalars| scalars.into_iter().map(Scalar::text).collect())
}
