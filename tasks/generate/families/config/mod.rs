//! Configuration files: set, merged, repaired, with what else is in them left alone.

mod data;
mod keys;

use crate::generate::Difficulty::{Easy, Hard, Medium};
use crate::generate::Family;
use crate::generate::template::{Parameter, Template};

pub(super) const FAMILY: Family = Family {
    name: "config",
    about: "configuration in INI, JSON, YAML, env and hosts files: set, merged, repaired",
    templates: &TEMPLATES,
};

const INI: Parameter = Parameter {
    values: &["app.ini", "server.ini", "mail.ini", "client.ini", "worker.ini", "portal.ini"],
};

const SECTION: Parameter =
    Parameter { values: &["database", "cache", "logging", "session", "queue", "search"] };

const KEY: Parameter =
    Parameter { values: &["timeout", "retries", "limit", "level", "workers", "buffer"] };

/// What files have at the start has other lengths.
const NUMBER: Parameter =
    Parameter { values: &["1500", "2500", "4000", "7500", "1200", "6400", "3600", "9000"] };

const ENV: Parameter =
    Parameter { values: &["prod.env", "dev.env", "test.env", "local.env", "stage.env"] };

const VARIABLE: Parameter =
    Parameter { values: &["PORT", "HOST", "DEBUG", "REGION", "TOKEN", "MODE", "OWNER", "THEME"] };

const WORD: Parameter = Parameter {
    values: &["violin", "trumpet", "guitar", "piano", "cello", "flute", "banjo", "oboe"],
};

const JSON: Parameter = Parameter {
    values: &["config.json", "settings.json", "options.json", "setup.json", "params.json"],
};

/// Files that are to be written.
const NEW_JSON: Parameter = Parameter {
    values: &[
        "fixed.json",
        "clean.json",
        "valid.json",
        "strict.json",
        "repaired.json",
        "good.json",
        "plain.json",
        "sound.json",
        "parsed.json",
        "mended.json",
    ],
};

const SERVICE: Parameter =
    Parameter { values: &["web", "auth", "mail", "jobs", "chat", "feed", "shop", "wiki"] };

const FLAG: Parameter = Parameter { values: &["legacy", "beta", "debug", "trace", "unsafe"] };

const YAML: Parameter = Parameter {
    values: &["compose.yaml", "deploy.yaml", "stack.yaml", "services.yaml", "site.yaml"],
};

const TAG: Parameter = Parameter { values: &["2.14", "3.11", "4.20", "5.16", "6.12", "7.30"] };

const COPIES: Parameter = Parameter { values: &["12", "15", "16", "20", "24", "32"] };

const DEFAULTS: Parameter =
    Parameter { values: &["defaults.conf", "shipped.conf", "vendor.conf", "stock.conf"] };

const LOCAL: Parameter =
    Parameter { values: &["local.conf", "site.conf", "user.conf", "host.conf"] };

const MERGED: Parameter =
    Parameter { values: &["merged.conf", "effective.conf", "active.conf", "joint.conf"] };

const HOSTS: Parameter =
    Parameter { values: &["hosts", "hosts.lan", "hosts.local", "hosts.new", "hosts.office"] };

const NAME: Parameter =
    Parameter { values: &["printer", "backup", "mirror", "proxy", "camera", "router"] };

const ADDRESS: Parameter =
    Parameter { values: &["10.9.8.7", "10.20.30.40", "172.16.5.4", "192.168.77.9", "10.1.1.250"] };

const SCRIPT: Parameter = Parameter {
    values: &["setkey", "iniset", "setini", "putkey", "confset", "keyset", "setconf", "iniput"],
};

static TEMPLATES: [Template; 8] = [
    Template {
        name: "ini",
        difficulty: Easy,
        parameters: &[INI, SECTION, KEY, NUMBER],
        phrasings: &[
            "In {0}, set {2} in the section [{1}] to {3}. Leave everything else in the file as it \
             is: other sections, comments and the order of lines.",
            "Change the key {2} of section {1} in the file {0}, so that its value is {3}. No other \
             line may change, and comments stay.",
            "{0} needs {2} = {3} under [{1}], in place of the present value. The same key in other \
             sections, and all comments, must stay the way they are.",
        ],
        make: keys::ini,
    },
    Template {
        name: "env",
        difficulty: Easy,
        parameters: &[ENV, VARIABLE, WORD, VARIABLE],
        phrasings: &[
            "In {0}, set the variable {1} to {2} (no quotes) in its present line, and remove the \
             line that sets {3}. Comments stay, even if they look like such lines, and so do \
             variables whose names only contain {1} or {3}.",
            "Edit {0}: {1} should have the value {2} (in the same line as now, without quotes), \
             and {3} should no longer be set, its line being gone. All other lines, comments \
             included, and their order remain.",
            "Please update {0} so that {1}={2} replaces the old setting of {1} and no line sets \
             {3} any more. Commented lines and variables with longer names are not meant and stay.",
        ],
        make: keys::env,
    },
    Template {
        name: "json",
        difficulty: Medium,
        parameters: &[JSON, SERVICE, NUMBER, FLAG],
        phrasings: &[
            "In {0}, set the port of {1} (under services) to the number {2}, and remove the key \
             {3} from every object in the file, at whatever depth. All other data stays. The \
             layout of the file doesn't matter, as long as it is valid JSON.",
            "Change {0}, a JSON file: services, {1}, port becomes {2} (a number, not a string), \
             and wherever an object has a key {3}, that key goes. Nothing else in the data may \
             change; formatting and the order of keys are free.",
            "The JSON file {0} needs two edits. The service {1} gets the numeric port {2}. And all \
             keys named {3}, at the top and in all nested objects and lists, are to be deleted. \
             Keep the rest of the data; how it is indented is up to you.",
        ],
        make: data::json,
    },
    Template {
        name: "yaml",
        difficulty: Medium,
        parameters: &[YAML, SERVICE, TAG, COPIES],
        phrasings: &[
            "In {0}, the service {1} should use the tag {2} of its image (the part after the \
             colon) and have replicas: {3}. Change only these two lines of the service itself, not \
             those of its sidecar or of other services; comments and layout stay.",
            "Update {0}: for {1} under services, set the image's tag to {2}, keeping the image's \
             name, and replicas to {3}. A sidecar inside the service keeps its own image and \
             replicas. All else, such as comments at the ends of lines, stays as it is.",
            "Service {1} in the file {0} moves to image tag {2} and {3} replicas. Edit just those \
             two values in place (the sidecar nested in it has such keys too, which stay). No \
             other service, comment or space may change.",
        ],
        make: keys::yaml,
    },
    Template {
        name: "defaults",
        difficulty: Medium,
        parameters: &[DEFAULTS, LOCAL, MERGED],
        phrasings: &[
            "Merge {0} and {1}, which have lines such as key = value, into {2}. It should have \
             each key of {0} in the order in which they first appear there, with the value of {1} \
             where that sets the key; then the keys that only {1} has, in its order. Write each as \
             key = value, without comments or empty lines. If a file sets a key twice, the last \
             value counts. Only lines that start with # are comments.",
            "Write the effective configuration into {2}: defaults come from {0}, and settings in \
             {1} override them. Order: first all keys of {0} as they first occur, then those found \
             only in {1}, as they first occur. One line \"key = value\" per key; no comments \
             (lines beginning with #), no blank lines. Of several settings of one key in the same \
             file, the last is the valid one.",
            "{2} is to be made from {0} (defaults) and {1} (overrides): a line \"key = value\" for \
             every key, those of {0} in order of first appearance, followed by the ones that occur \
             in {1} alone, likewise. {1} beats {0}, and in one file a later line beats an earlier \
             one. Leave out blank lines and lines starting with #; a # further on is part of the \
             value.",
        ],
        make: data::defaults,
    },
    Template {
        name: "hosts",
        difficulty: Medium,
        parameters: &[HOSTS, NAME, ADDRESS],
        phrasings: &[
            "In the file {0} (lines like /etc/hosts), the name {1} should belong to {2} only. Take \
             it out of all lines that have it now; their other names and comments stay, but a line \
             without any name left is removed. Then add the line {2} {1} at the end. Names that \
             merely contain {1} are other names.",
            "Move the host name {1} to the address {2} in {0}: remove this exact name wherever it \
             is listed (keep the address, other names and the comment of such lines; drop the line \
             if it had no other name), and append a line \"{2} {1}\". Comments don't change.",
            "{0} has the format of /etc/hosts. Make {1} resolve to {2}: no other line may list the \
             name {1} any more, a new last line says {2} {1}. Lines that list further names keep \
             those and their comments; a line of which {1} was the only name goes away entirely. \
             Longer names like {1}2, and text in comments, are not affected.",
        ],
        make: data::hosts,
    },
    Template {
        name: "repair",
        difficulty: Hard,
        parameters: &[JSON, NEW_JSON],
        phrasings: &[
            "{0} is not valid JSON: it has // comments, commas after the last element of lists and \
             objects, and keys without quotes. Write the same data as valid JSON into {1}, with \
             all strings exactly as they are. Keep {0}.",
            "Make a strict JSON file {1} out of {0}, in which somebody wrote // comments, trailing \
             commas and unquoted keys. The data must be the same, and the text inside of strings \
             must not change (they may contain // or commas themselves). Don't change {0}.",
            "jq refuses {0}, since that has comments (//), unquoted keys and trailing commas. \
             Produce {1} from it, which jq reads and which has the same content, strings \
             untouched. {0} stays as it is.",
        ],
        make: data::repair,
    },
    Template {
        name: "tool",
        difficulty: Hard,
        parameters: &[SCRIPT, INI],
        phrasings: &[
            "Write an executable script {0} here in /app. ./{0} FILE SECTION KEY VALUE sets a key \
             of an INI file such as {1}, in place: the line of KEY in [SECTION] becomes KEY = \
             VALUE. If the section lacks the key, the line is added after the section's last \
             setting; if the file lacks the section, [SECTION] and the line are added at the end. \
             All other lines stay (blank lines don't matter). Lines that start with # or ; are \
             comments, old lines may have no spaces around =, and VALUE may have any characters, \
             such as / and &.",
            "I want a program /app/{0}, executable, in any language that is installed, called as \
             ./{0} FILE SECTION KEY VALUE. It edits the INI file FILE (an example is {1}): in that \
             section only, the setting of KEY is replaced by the line KEY = VALUE; a missing key \
             is added below the last setting of the section, a missing section at the end of the \
             file. Comments (# or ; first) and other lines are kept, blank lines are free. Old \
             settings can be written key=value; VALUE can contain / & \\ and the like.",
            "Make a command-line tool ./{0} (an executable file in /app) with the arguments FILE \
             SECTION KEY VALUE, which changes FILE, in the format of {1}: it writes KEY = VALUE in \
             place of KEY's line within [SECTION], or as a new line right after the last setting \
             of that section, or, when there is no such section, behind a new line [SECTION] at \
             the end. KEY and VALUE are plain text: special characters mean nothing. Keys may \
             stand before = without a space. Comment lines (# or ;) and everything else must \
             survive; only empty lines don't count.",
        ],
        make: keys::tool,
    },
];
