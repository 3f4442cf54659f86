//! Times at which things run: lists of times, tables of intervals, and crontabs, whose rules the
//! instructions tell as far as they are needed.

mod calendar;
mod crontabs;
mod days;
mod tables;

use crate::generate::Family;
use crate::generate::template::{Parameter, Template};

pub(super) const FAMILY: Family = Family {
    name: "schedules",
    about: "crontabs and timetables: what runs when, conflicts, time in use, faulty entries",
    templates: &TEMPLATES,
};

static TEMPLATES: [Template; 7] = [
    tables::AT_HOUR,
    crontabs::RETIME,
    tables::CONFLICTS,
    tables::BUSY,
    crontabs::FAULTY,
    days::RUNS_AT,
    days::NEXT_RUN,
];

/// None has an hour that is its minute.
const TIME: Parameter = Parameter {
    values: &[
        "00:30", "05:10", "06:30", "08:15", "09:45", "12:20", "14:30", "17:50", "19:10", "23:40",
    ],
};

const DATE: Parameter = Parameter {
    values: &[
        "2027-01-03",
        "2027-02-16",
        "2027-03-31",
        "2027-04-18",
        "2027-05-07",
        "2027-06-24",
        "2027-07-12",
        "2027-08-28",
        "2027-09-05",
        "2027-10-15",
        "2027-11-30",
        "2027-12-22",
    ],
};

/// The two numbers of a time.
fn clock(time: &str) -> (usize, usize) {
    let (hour, minute) = time.split_once(':').unwrap_or((time, "0"));
    (hour.parse().unwrap_or(0), minute.parse().unwrap_or(0))
}

/// A time of day by its minutes.
fn shown(minutes: usize) -> String {
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}
