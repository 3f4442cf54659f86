//! Logs: what was served, when, to whom, how fast, and what went wrong.

mod applications;
mod requests;

use crate::generate::Difficulty::{Easy, Hard, Medium};
use crate::generate::Family;
use crate::generate::template::{Parameter, Template};

pub(super) const FAMILY: Family = Family {
    name: "logs",
    about: "logs: what was served, when, to whom, how fast, and what went wrong",
    templates: &TEMPLATES,
};

const STATUS: Parameter = Parameter { values: &["200", "301", "403", "404", "500", "503"] };

const ACCESS: Parameter = Parameter {
    values: &["access.log", "web.log", "nginx.log", "proxy.log", "front.log", "site.log"],
};

const OUTPUT: Parameter = Parameter {
    values: &["result.txt", "report.txt", "answer.txt", "found.txt", "out.txt", "summary.txt"],
};

const COUNT: Parameter = Parameter { values: &["3", "4", "5", "6"] };

const FROM: Parameter = Parameter { values: &["08:15", "08:40", "09:05", "09:30", "09:55"] };

const UNTIL: Parameter = Parameter { values: &["11:10", "11:35", "12:00", "12:25"] };

const APP: Parameter =
    Parameter { values: &["app.log", "server.log", "daemon.log", "worker.log", "main.log"] };

const LEVEL: Parameter = Parameter { values: &["ERROR", "WARN", "FATAL"] };

const PART: Parameter = Parameter { values: &["web", "db", "auth", "mail", "cache", "jobs"] };

const FOLDER: Parameter = Parameter { values: &["logs", "old", "var", "archive", "saved"] };

const PERCENT: Parameter = Parameter { values: &["50", "75", "90", "95"] };

const MINUTES: Parameter = Parameter { values: &["10", "15", "20", "30", "45"] };

const VISITS: Parameter = Parameter { values: &["visits.log", "clicks.log", "hits.log"] };

const SCRIPT: Parameter =
    Parameter { values: &["sessions.sh", "users.sh", "visits.sh", "stays.sh", "group.sh"] };

static TEMPLATES: [Template; 7] = [
    Template {
        name: "status",
        difficulty: Easy,
        parameters: &[STATUS, ACCESS, OUTPUT],
        phrasings: &[
            "{1} is a web server's access log; after the quoted request, a line has the status \
             code and the size. Write into {2} how many requests were answered with status {0}: \
             only the number.",
            "How many requests in the access log {1} got the status code {0}? The status comes \
             right after the request in quotes, before the size of the answer. Put the number, and \
             nothing else, into {2}.",
            "Count the lines of {1} (an access log: address, time, \"request\", status, size) that \
             have {0} as their status and save just this count as {2}.",
        ],
        make: requests::status,
    },
    Template {
        name: "clients",
        difficulty: Medium,
        parameters: &[COUNT, ACCESS, OUTPUT],
        phrasings: &[
            "Which {0} addresses sent the most requests according to the access log {1}? Write a \
             line 'address count' for each into {2}, most requests first. Addresses with equally \
             many requests are sorted as plain text, also where this decides who is among the {0}.",
            "Write the top {0} clients of {1} into {2}: one line per client with its address (the \
             first field of a log line), a space and its number of requests. Order by number, \
             highest first, and by address, compared as text, where numbers are equal.",
            "Count the requests of each client address in {1}, an access log, and list the {0} \
             busiest in {2} as 'address count'. Sort by falling count and break ties by the \
             address in ascending text order (as LC_ALL=C sort does).",
        ],
        make: requests::clients,
    },
    Template {
        name: "window",
        difficulty: Medium,
        parameters: &[FROM, UNTIL, APP, OUTPUT],
        phrasings: &[
            "Copy the lines of {2} from {0} until {1} into {3}: those logged at {0}:00 or later \
             but before {1}:00. The second field of a line is its time. Keep their order and do \
             not change {2}.",
            "I need the part of {2} between {0} and {1} in {3}. A line at exactly {0}:00 belongs \
             to it, one at {1}:00 or later does not; the time is in the second column. The order \
             stays, and so does {2} itself.",
            "Write to {3} all lines of the log {2} whose time (second field, HH:MM:SS) is at least \
             {0}:00 and less than {1}:00, in the order they have. Leave {2} alone.",
        ],
        make: applications::window,
    },
    Template {
        name: "entries",
        difficulty: Medium,
        parameters: &[LEVEL, PART, APP],
        phrasings: &[
            "Extract the {0} entries of [{1}] from {2} into found.txt. An entry is a line with \
             date, time, level and component, and the indented lines that follow it, if any, which \
             belong to it and are to be copied as well. Keep the order.",
            "An entry of {2} starts with a line 'date time level [component] message' and may go \
             on over further lines, which begin with spaces. Write all entries with level {0} and \
             component [{1}], complete with their further lines, to found.txt, in the same order.",
            "Find everything that component [{1}] logged at level {0} in {2} and put it into \
             found.txt unchanged and in order. Mind the traces: indented lines belong to the entry \
             above them.",
        ],
        make: applications::entries,
    },
    Template {
        name: "rotated",
        difficulty: Medium,
        parameters: &[LEVEL, FOLDER, OUTPUT],
        phrasings: &[
            "The folder {1} has a log and its older parts, some compressed: app.log is the newest, \
             app.log.4.gz the oldest. Write all lines of level {0} (the third field) of all parts \
             into {2}, oldest first. Leave the folder as it is.",
            "Collect the {0} lines (level is the third column) of the rotated log in {1} in one \
             file {2} in the order in which they were logged. The higher its number, the older a \
             file; app.log is being written now, and files in .gz are compressed. Nothing in {1} \
             may change.",
            "In {1} lie app.log, app.log.1 and some with higher numbers that are gzipped; a higher \
             number means older. Put every line whose third field is {0}, from all of them, into \
             {2} so that the oldest comes first. Do not modify the files in {1}.",
        ],
        make: applications::rotated,
    },
    Template {
        name: "latency",
        difficulty: Hard,
        parameters: &[PERCENT, ACCESS, OUTPUT],
        phrasings: &[
            "For each path in {1} write 'path count value' into {2}, sorted by path as text, where \
             count is the number of its requests and value their percentile {0} of ms by nearest \
             rank: with n times sorted ascending, the one at position n * {0} / 100, rounded up to \
             a whole number, counted from 1. The part of a path from '?' on is not part of it.",
            "Work out the p{0} latency per path from {1} (field ms=). Strip query strings first: \
             /a?x=1 is /a. Use the nearest-rank method: sort the n values of a path in ascending \
             order and take number ceil(n * {0} / 100), where the first is number 1. {2} gets a \
             line 'path n value' per path, in ascending text order of the paths.",
            "Requests in {1} have a path and a time in ms. Group them by path without query \
             string ('?' and all after it) and write to {2}, one line per path in alphabetical \
             order: path, number of requests, {0}th percentile of ms, separated by spaces. The \
             percentile is the k-th smallest value with k = {0} * n / 100 rounded up, n being the \
             number of requests.",
        ],
        make: requests::latency,
    },
    Template {
        name: "sessions",
        difficulty: Hard,
        parameters: &[MINUTES, VISITS, SCRIPT],
        phrasings: &[
            "Lines of {1} are 'seconds user page', in no order. A user's visits belong to one \
             session as long as no more than {0} minutes lie between one and the next. Write a \
             Bash script {2} that takes the path of such a file and prints a line 'user sessions \
             longest' for each user, sorted by user: the number of sessions and the seconds from \
             the first to the last visit of the longest one.",
            "Make {2}, run as 'bash {2} FILE', for files like {1}: a time in seconds, a user and a \
             page in each line, unsorted. A pause of more than {0} minutes (exactly {0} is not \
             more) begins a new session of the user. Print for every user, in alphabetical order, \
             'user count length': how many sessions, and the length in seconds of the longest, \
             from its first to its last visit.",
            "I want to know how long people stay. {1} is an example of our files (seconds, user, \
             page; the lines are not in order of time). Write the Bash script {2}, which gets the \
             file as its argument and prints, sorted by user, the user, the number of sessions and \
             the duration of the longest session in seconds, separated by spaces. A session ends \
             when the user's next visit is more than {0} minutes later; one visit alone lasts 0 \
             seconds.",
        ],
        make: requests::sessions,
    },
];
