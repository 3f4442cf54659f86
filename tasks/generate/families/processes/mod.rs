//! Control of processes and ports. What is judged are files: tables that were saved, and scripts
//! that the tests run, since no process outlives the agent.

mod scripts;
mod service;
mod tables;

use crate::generate::Family;
use crate::generate::template::Template;

pub(super) const FAMILY: Family = Family {
    name: "processes",
    about: "processes and ports: saved tables, signals, pid files, a server's port, retries",
    templates: &TEMPLATES,
};

static TEMPLATES: [Template; 6] =
    [tables::PIDS, tables::BELOW, scripts::RETRY, scripts::TRAP, service::PORT, service::PIDFILE];
