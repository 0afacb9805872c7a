//! What the diff says of a row, and what a destination is asked to do about it.

use serde::{Deserialize, Serialize};

/// A row's difference from what the destination last acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// In the model, never acknowledged.
    Add,
    /// In the model with other values than acknowledged, or doubtful.
    Change,
    /// Acknowledged, no longer in the model.
    Remove,
}

impl Change {
    /// Every change, in the order in which totals are shown.
    pub const ALL: [Self; 3] = [Self::Add, Self::Change, Self::Remove];

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Change => "change",
            Self::Remove => "remove",
        }
    }
}

/// What a destination does with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Write it, whether it is there or not.
    Upsert,
    /// Write it if it is there.
    Update,
    /// Write it if it is absent.
    Create,
    /// Send it as an event or a message.
    Append,
    /// Take it away.
    Delete,
    /// Put it in the destination's archive.
    Archive,
    /// Set its mapped fields to null.
    Clear,
    /// Put it on the list.
    AddMember,
    /// Take it off the list.
    RemoveMember,
}

impl Operation {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Upsert => "upsert",
            Self::Update => "update",
            Self::Create => "create",
            Self::Append => "append",
            Self::Delete => "delete",
            Self::Archive => "archive",
            Self::Clear => "clear",
            Self::AddMember => "add_member",
            Self::RemoveMember => "remove_member",
        }
    }
}
