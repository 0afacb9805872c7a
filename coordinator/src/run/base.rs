//! The snapshot that a plan is made against: whether it is one of what the sync is now, and whether it can be read.

use outflow_model::port::store::LocalCopy;
use outflow_model::text::with_causes;
use outflow_snapshot::{Header, SnapshotReader};

use super::{Engine, EngineError};

/// Code of what stopped a run whose base cannot be read.
pub(super) const BASE_LOST: &str = "BASE_LOST";

/// A base, as a file, and what it says of itself.
pub(super) struct Base {
    pub(super) copy: LocalCopy,
    pub(super) header: Header,
}

impl Engine {
    /// The base snapshot of a sync, checked to be of what `header` says.
    pub(super) async fn base(&self, key: Option<&str>, header: &Header) -> Result<Option<Base>, EngineError> {
        let Some(key) = key else { return Ok(None) };
        let copy = self.store.local(key).await.map_err(|error| base_lost(error.into()))?;
        let found = SnapshotReader::open(&copy.path).map_err(|error| base_lost(error.into()))?.header().clone();
        match difference(&found, header) {
            Some((what, was, is)) => Err(EngineError::OtherSnapshot { sync: header.sync.clone(), what, was, is }),
            None => Ok(Some(Base { copy, header: found })),
        }
    }
}

/// An error of reading the base, told as its loss where it is that.
pub(super) fn base_lost(error: EngineError) -> EngineError {
    if error.is_damage() { EngineError::BaseLost(with_causes(&error)) } else { error }
}

/// What two headers differ in, which is no mapping: what, how it was, and how it is.
fn difference(was: &Header, is: &Header) -> Option<(&'static str, String, String)> {
    let key = |header: &Header| {
        let columns =
            header.key.iter().zip(&header.fold).map(|((name, kind), fold)| {
                format!("{name} {}{}", kind.name(), if *fold { " in any case" } else { "" })
            });
        columns.collect::<Vec<_>>().join(", ")
    };
    [
        ("destination account", was.account.clone(), is.account.clone()),
        ("destination type", was.destination.clone(), is.destination.clone()),
        ("object", was.object.clone(), is.object.clone()),
        ("family of operations", was.family.clone(), is.family.clone()),
        ("key", key(was), key(is)),
        ("encoding", was.encoding.to_string(), is.encoding.to_string()),
    ]
    .into_iter()
    .find(|(_, was, is)| was != is)
}

#[cfg(test)]
mod tests {
    use outflow_model::cell::Kind;
    use outflow_snapshot::ENCODING;

    use super::*;

    fn header() -> Header {
        Header {
            sync: "people".to_owned(),
            run: "run_1".to_owned(),
            account: "crm".to_owned(),
            destination: "hubspot".to_owned(),
            object: "contacts".to_owned(),
            family: "write".to_owned(),
            key: vec![("email".to_owned(), Kind::Text)],
            fold: vec![true],
            mapping: "m".to_owned(),
            encoding: ENCODING,
        }
    }

    #[test]
    fn a_snapshot_of_anything_else_is_refused_and_one_of_another_mapping_is_not() {
        let other = || "other".to_owned();
        let others = [
            ("destination account", Header { account: other(), ..header() }),
            ("destination type", Header { destination: other(), ..header() }),
            ("object", Header { object: other(), ..header() }),
            ("family of operations", Header { family: other(), ..header() }),
            ("key", Header { key: vec![("email".to_owned(), Kind::Int)], ..header() }),
            ("key", Header { fold: vec![false], ..header() }),
            ("encoding", Header { encoding: ENCODING + 1, ..header() }),
        ];
        for (what, was) in others {
            let found = difference(&was, &header());
            assert_eq!(found.as_ref().map(|(what, ..)| *what), Some(what));
            assert!(found.is_some_and(|(_, was, is)| was != is), "{what}");
        }
        let mapped = Header { mapping: other(), run: other(), ..header() };
        assert_eq!(difference(&mapped, &header()), None);
    }
}
