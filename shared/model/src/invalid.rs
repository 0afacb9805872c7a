//! The codes of rows that are invalid: Outflow refuses them before planning, and what a user can do.

/// Why a row is invalid. A closed set; the code stands in a failed record's `refusal.code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidCode {
    /// A value does not fit, or the mapping fails.
    Value,
    /// A key column is null.
    NullKey,
    /// Another row has the same key.
    DuplicateKey,
    /// A removed row's key is not in the snapshot.
    UnknownKey,
    /// The source has a value that cannot be had exactly.
    SourceValue,
    /// A removed row's record at the destination is also that of another row.
    SharedRecord,
}

impl InvalidCode {
    /// Every code.
    pub const ALL: [Self; 6] =
        [Self::Value, Self::NullKey, Self::DuplicateKey, Self::UnknownKey, Self::SourceValue, Self::SharedRecord];

    /// The stable code, documented in `docs/errors.md`.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Value => "OF-5001",
            Self::NullKey => "OF-5002",
            Self::DuplicateKey => "OF-5003",
            Self::UnknownKey => "OF-5004",
            Self::SourceValue => "OF-5005",
            Self::SharedRecord => "OF-5006",
        }
    }

    /// Reads a code back.
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.code() == code)
    }

    /// What a user can do about it.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Value => "Correct the row or the mapping.",
            Self::NullKey => "Give every row a key, or leave such rows out in the model.",
            Self::DuplicateKey => "Make the model's key unique.",
            Self::UnknownKey => {
                "Remove it at the destination by hand; `outflow state reset SYNC` then forgets it, and the next run sends every row."
            }
            Self::SourceValue => "Correct the value, or CAST it or leave it out in the model.",
            Self::SharedRecord => {
                "Nothing to do: the record stays, for the other row. Look there whether one record is meant for both."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_and_its_remedy_are_documented() {
        let page = include_str!("../../../docs/errors.md");
        for invalid in InvalidCode::ALL {
            let row = format!("| {} |", invalid.code());
            assert!(
                page.lines().any(|line| line.starts_with(&row) && line.contains(invalid.remedy())),
                "{} or its remedy is missing in docs/errors.md",
                invalid.code()
            );
            assert_eq!(InvalidCode::parse(invalid.code()), Some(invalid));
        }
        let documented = page.lines().filter(|line| line.starts_with("| OF-5")).count();
        assert_eq!(documented, InvalidCode::ALL.len(), "docs/errors.md has a code that nothing gives");
    }
}
