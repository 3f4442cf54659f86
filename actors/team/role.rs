//! Who is on the team.

use std::fmt;

use bincode::{Decode, Encode};

#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Encode,
    Decode,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Plans and delegates. Has no way to touch the environment.
    Orchestrator,
    /// Reads and runs. The file system is read-only to it outside its scratch folder.
    Explorer,
    /// Implements.
    Coder,
}

impl Role {
    pub const ALL: [Self; 3] = [Self::Orchestrator, Self::Explorer, Self::Coder];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Orchestrator => "orchestrator",
            Self::Explorer => "explorer",
            Self::Coder => "coder",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who a task can be given to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubagentKind {
    Explorer,
    Coder,
}

impl SubagentKind {
    pub fn role(self) -> Role {
        match self {
            Self::Explorer => Role::Explorer,
            Self::Coder => Role::Coder,
        }
    }
}
