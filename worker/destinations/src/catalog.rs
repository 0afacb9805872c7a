//! Every destination that is built in: one line each, alphabetical.

use crate::blackhole;
use crate::hubspot;
use crate::manifest::{Interpreter, Manifest};
use crate::protocol::Destination;
use crate::salesforce;

type Open = fn(Manifest) -> Result<Box<dyn Destination>, String>;

const BUILT_IN: &[(&str, &str, Open)] = &[
    ("blackhole", blackhole::MANIFEST, blackhole::open),
    ("hubspot", hubspot::MANIFEST, hubspot::open),
    ("salesforce", salesforce::MANIFEST, salesforce::open),
];

/// The names of all built-in destinations.
pub fn names() -> impl Iterator<Item = &'static str> {
    BUILT_IN.iter().map(|(name, _, _)| *name)
}

/// The manifest of a built-in destination.
pub fn manifest(name: &str) -> Option<Result<Manifest, String>> {
    BUILT_IN.iter().find(|(built_in, _, _)| *built_in == name).map(|(_, text, _)| Manifest::parse(text))
}

/// The destination that a manifest describes: built-in code where there is some, else the interpreter.
pub fn open(manifest: Manifest) -> Result<Box<dyn Destination>, String> {
    match BUILT_IN.iter().find(|(name, _, _)| *name == manifest.name) {
        Some((_, _, open)) => open(manifest),
        None => Ok(Box::new(Interpreter::new(manifest)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_manifest_is_sound_and_in_order() {
        assert!(names().is_sorted());
        for (name, text, open) in BUILT_IN {
            let manifest = Manifest::parse(text).unwrap_or_else(|problem| panic!("{name}: {problem}"));
            assert_eq!(manifest.name, *name);
            assert!(open(manifest).is_ok(), "{name}");
        }
    }
}
