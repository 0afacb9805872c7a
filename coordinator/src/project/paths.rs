//! Fields whose names are paths: `address.city` is the member `city` of the object `address`.

use super::load::Sync;
use super::yaml::Problem;

/// Checks that the mapping's fields can stand in one object.
pub(super) fn check(sync: &Sync) -> Vec<Problem> {
    let fields = &sync.config.mapping;
    let mistakes = fields.keys().filter_map(|field| {
        let reason = mistake(field, fields.keys())?;
        Some(sync.document.problem(&format!("mapping.{field}"), reason))
    });
    mistakes.collect()
}

/// Why `field` cannot stand beside `others`.
fn mistake<'a>(field: &str, mut others: impl Iterator<Item = &'a String>) -> Option<String> {
    if field.split('.').any(str::is_empty) {
        return Some(
            "A dot in a field's name stands between the names of an object and its member; one of them is empty."
                .to_owned(),
        );
    }
    let within = others.find(|other| other.strip_prefix(field).is_some_and(|rest| rest.starts_with('.')))?;
    Some(format!("It cannot be a value and, for \"{within}\", an object; map one of the two."))
}

#[cfg(test)]
mod tests {
    use super::mistake;

    #[test]
    fn a_field_is_a_value_or_an_object_and_no_part_of_its_path_is_empty() {
        let fields = ["email", "a", "a.b", "ab.c", "x.y", "x.z.u"].map(str::to_owned);
        let wrong = |field: &str| mistake(field, fields.iter()).is_some();
        let found: Vec<&String> = fields.iter().filter(|field| wrong(field)).collect();
        assert_eq!(found, ["a"]);
        assert!(["a..d", ".x", "y.", ".", ""].into_iter().all(wrong));
    }
}
