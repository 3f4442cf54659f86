//! The composition root.

pub mod coordinator;
pub mod ledger;
pub mod node;
pub mod store;
