//! Every destination that is built in: one line each, alphabetical.

use crate::blackhole;
use crate::hubspot;
use crate::manifest::{Interpreter, Manifest};
use crate::protocol::Destination;
use crate::salesforce;

type Open = fn(Manifest) -> Result<Box<dyn Destination>, String>;

/// Each by its name: the manifest's text, what opens it, and whether its code makes all its requests.
const BUILT_IN: &[(&str, &str, Open, bool)] = &[
    ("blackhole", blackhole::MANIFEST, blackhole::open, true),
    ("hubspot", hubspot::MANIFEST, hubspot::open, false),
    ("salesforce", salesforce::MANIFEST, salesforce::open, true),
];

/// The names of all built-in destinations.
pub fn names() -> impl Iterator<Item = &'static str> {
    BUILT_IN.iter().map(|(name, ..)| *name)
}

/// The text of a built-in destination's manifest.
pub fn text(name: &str) -> Option<&'static str> {
    BUILT_IN.iter().find(|(built_in, ..)| *built_in == name).map(|(_, text, ..)| *text)
}

/// The manifest of a built-in destination.
pub fn manifest(name: &str) -> Option<Result<Manifest, String>> {
    text(name).map(|text| Manifest::parse(text).map_err(|error| error.to_string()))
}

/// True where the destination's code makes all its requests, so that its manifest has no bodies.
pub(crate) fn makes_requests(name: &str) -> bool {
    BUILT_IN.iter().any(|(built_in, _, _, code)| *built_in == name && *code)
}

/// The destination that a manifest describes: built-in code where there is some, else the interpreter.
pub fn open(manifest: Manifest) -> Result<Box<dyn Destination>, String> {
    match BUILT_IN.iter().find(|(name, ..)| *name == manifest.name) {
        Some((_, _, open, _)) => open(manifest),
        None => Ok(Box::new(Interpreter::new(manifest)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_manifest_is_sound_and_in_order() {
        assert!(names().is_sorted());
        for (name, text, open, _) in BUILT_IN {
            let manifest = Manifest::parse(text).unwrap_or_else(|problem| panic!("{name}: {problem}"));
            assert_eq!(manifest.name, *name);
            assert!(open(manifest).is_ok(), "{name}");
        }
    }
}
