//! Which changes a sync sends, and as what.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Change, Operation};

/// How a sync treats added, changed and removed rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Write added and changed rows; leave removed ones.
    Upsert,
    /// Write rows that the destination already has; leave the others.
    Update,
    /// Write rows that the destination does not have yet; never change one.
    Create,
    /// Send each added row as an event or message.
    Append,
    /// Make the destination's copy of our rows equal the model: write, and take away what is removed.
    Mirror,
    /// Take away at the destination the rows that the model lists.
    Delete,
    /// Keep a list or audience equal to the model.
    Members,
}

/// What `mirror` does with a removed row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Removal {
    /// Take it away.
    #[default]
    Delete,
    /// Put it in the destination's archive.
    Archive,
    /// Set its mapped fields to null.
    Clear,
}

/// Which rows `append` sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Append {
    /// A row once, when it first appears.
    #[default]
    OnAdd,
    /// A row again each time it changes.
    OnChange,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 7] =
        [Self::Upsert, Self::Update, Self::Create, Self::Append, Self::Mirror, Self::Delete, Self::Members];

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Upsert => "upsert",
            Self::Update => "update",
            Self::Create => "create",
            Self::Append => "append",
            Self::Mirror => "mirror",
            Self::Delete => "delete",
            Self::Members => "members",
        }
    }

    /// The family of its operations: what one family has had acknowledged says nothing to another.
    pub const fn family(self) -> &'static str {
        match self {
            Self::Upsert | Self::Update | Self::Create | Self::Mirror => "write",
            Self::Append => "append",
            Self::Delete => "delete",
            Self::Members => "member",
        }
    }

    /// What is sent for `change`; nothing where the mode ignores it.
    pub const fn operation(self, change: Change, removal: Removal, append: Append) -> Option<Operation> {
        match (self, change) {
            (Self::Upsert | Self::Mirror, Change::Add | Change::Change) => Some(Operation::Upsert),
            (Self::Update, Change::Add | Change::Change) => Some(Operation::Update),
            (Self::Create, Change::Add) => Some(Operation::Create),
            (Self::Append, Change::Add) => Some(Operation::Append),
            (Self::Append, Change::Change) => match append {
                Append::OnAdd => None,
                Append::OnChange => Some(Operation::Append),
            },
            (Self::Mirror, Change::Remove) => Some(match removal {
                Removal::Delete => Operation::Delete,
                Removal::Archive => Operation::Archive,
                Removal::Clear => Operation::Clear,
            }),
            (Self::Delete, Change::Add) => Some(Operation::Delete),
            (Self::Members, Change::Add) => Some(Operation::AddMember),
            (Self::Members, Change::Remove) => Some(Operation::RemoveMember),
            (Self::Upsert | Self::Update | Self::Append, Change::Remove)
            | (Self::Create | Self::Delete, Change::Change | Change::Remove)
            | (Self::Members, Change::Change) => None,
        }
    }

    /// True where a removed row is sent, so that the snapshot must keep keys and record ids.
    pub const fn removes(self) -> bool {
        matches!(self, Self::Mirror | Self::Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_modes_is_the_promised_one() {
        let table: Vec<String> = Mode::ALL
            .iter()
            .map(|mode| {
                let cell =
                    |change| mode.operation(change, Removal::Delete, Append::OnAdd).map_or("ignore", Operation::name);
                format!("{}: {} {} {}", mode.name(), cell(Change::Add), cell(Change::Change), cell(Change::Remove))
            })
            .collect();
        assert_eq!(
            table,
            [
                "upsert: upsert upsert ignore",
                "update: update update ignore",
                "create: create ignore ignore",
                "append: append ignore ignore",
                "mirror: upsert upsert delete",
                "delete: delete ignore ignore",
                "members: add_member ignore remove_member",
            ]
        );
    }
}
