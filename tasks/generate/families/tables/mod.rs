//! Tables as CSV and as JSON: filter, add up, convert, join, update.

mod documents;
mod sheets;

use crate::generate::Difficulty::{Easy, Hard, Medium};
use crate::generate::Family;
use crate::generate::template::{Parameter, Template};

pub(super) const FAMILY: Family = Family {
    name: "tables",
    about: "tables as CSV and as JSON: filter, add up, convert, join, update",
    templates: &TEMPLATES,
};

const CITY: Parameter =
    Parameter { values: &["Oslo", "Lima", "Cairo", "Kyoto", "Quito", "Perth", "Turin", "Delhi"] };

const CSV: Parameter = Parameter {
    values: &["orders.csv", "trips.csv", "parcels.csv", "may.csv", "june.csv", "all.csv"],
};

const NEW_CSV: Parameter =
    Parameter { values: &["result.csv", "report.csv", "chosen.csv", "out.csv", "summary.csv"] };

const JSON: Parameter = Parameter {
    values: &["people.json", "dump.json", "export.json", "data.json", "input.json", "old.json"],
};

const NEW_JSON: Parameter =
    Parameter { values: &["result.json", "report.json", "out.json", "goods.json", "new.json"] };

const JOINT: Parameter = Parameter { values: &[";", "/", "-", "+", "&"] };

const COLUMN: Parameter = Parameter { values: &["region", "clerk", "product"] };

const STATUS: Parameter = Parameter { values: &["paid", "open", "sent", "late", "void"] };

const PLACE: Parameter = Parameter { values: &["name", "city"] };

const SCRIPT: Parameter =
    Parameter { values: &["apply.sh", "update.sh", "patch.sh", "merge.sh", "sync.sh", "run.sh"] };

const SET: Parameter = Parameter { values: &["set", "put", "save"] };

const DROP: Parameter = Parameter { values: &["drop", "remove", "delete"] };

static TEMPLATES: [Template; 7] = [
    Template {
        name: "filter",
        difficulty: Easy,
        parameters: &[CITY, CSV, NEW_CSV],
        phrasings: &[
            "Copy the rows of {1} whose column 'destination' is {0} into {2}, with the header line \
             on top. Keep the order of the rows and all columns, and leave {1} as it is.",
            "From {1} I need only what goes to {0}: write the header and all rows that have {0} as \
             their destination to {2}, complete and in the same order. {1} stays unchanged.",
            "Filter the CSV file {1}: {2} gets its header and then each row in which the field \
             'destination' equals {0}, in the original order. Do not modify {1}.",
        ],
        make: sheets::filter,
    },
    Template {
        name: "to-json",
        difficulty: Medium,
        parameters: &[CSV, NEW_JSON],
        phrasings: &[
            "Convert {0} to JSON: {1} is to hold one array with an object per row, in the order of \
             the rows, whose keys are the column names of the header. 'id', 'price' and 'stock' \
             are numbers, 'title' and 'color' are strings; an empty field becomes null. Fields \
             with commas are quoted in the CSV file.",
            "Write {1} from {0} as a JSON array of objects, one for each row and in the same \
             order, with the header's names as keys. id, price and stock must be JSON numbers, the \
             other columns strings, and empty fields null. Note that quoted fields may contain \
             commas.",
            "Make a JSON version of the table {0} and save it as {1}: an array; each element is an \
             object {column name: value} for a row, same order. Use numbers for id, price and \
             stock, strings for title and color, and null wherever a field is empty. The CSV has \
             quoted fields.",
        ],
        make: documents::to_json,
    },
    Template {
        name: "to-csv",
        difficulty: Medium,
        parameters: &[JOINT, JSON, NEW_CSV],
        phrasings: &[
            "{1} is a JSON array of people. Write {2}, a CSV file with the header \
             'id,name,city,skills' and a row for each person, ordered by id as a number. The city \
             is in the person's 'address'; leave the field empty if there is no address. Skills \
             are joined with '{0}' in their order.",
            "Turn the JSON file {1} into a table {2} in CSV format with columns id, name, city and \
             skills (with this header line), sorted numerically by id. city is address.city, or \
             empty for a person without an address; skills are the person's skills in order, with \
             '{0}' between them.",
            "Flatten the array in {1} to {2}: first the line 'id,name,city,skills', then a CSV row \
             per person by ascending numeric id. Take the city from the nested address (an empty \
             field when the address is missing) and put '{0}' between the skills, in the order \
             given.",
        ],
        make: documents::to_csv,
    },
    Template {
        name: "spending",
        difficulty: Medium,
        parameters: &[CSV, NEW_CSV],
        phrasings: &[
            "customers.csv lists customers, {0} their orders (column 'customer' is a customer's \
             id). Write {1} with the header 'name,orders,total' and a row for each customer: the \
             name, the number of orders and the sum of their amounts, which is 0 for those without \
             orders. Largest total first, equal totals by name from a to z.",
            "For every customer in customers.csv, including those who never ordered, count the \
             orders in {0} and add up their amounts; {0} refers to customers by id in the column \
             'customer'. Put the result into {1}: header 'name,orders,total', rows sorted by total \
             from high to low, then by name alphabetically.",
            "Join customers.csv and {0} (its column 'customer' holds ids from customers.csv). {1} \
             is to be a CSV file with columns name, orders (how many) and total (sum of amount), a \
             header line with these names, and one row per customer. Customers with no orders get \
             0 and 0. Sort by falling total; where totals are equal, by name.",
        ],
        make: sheets::spending,
    },
    Template {
        name: "groups",
        difficulty: Hard,
        parameters: &[COLUMN, CSV, NEW_CSV],
        phrasings: &[
            "Summarize {1} by the column '{0}'. Write {2} with the header '{0},count,largest,mean' \
             and a row for each {0} in alphabetical order: the number of rows, the largest amount \
             and the mean amount, rounded to two decimals and written with exactly two (12.50). \
             Rows with an empty amount do not count at all. Beware of commas in quoted notes.",
            "In {1}, rows whose amount is empty are to be ignored. From the others make {2}, a CSV \
             table with one row per {0}, sorted by {0}, and the header '{0},count,largest,mean': \
             how many rows, the maximum of amount, the average of amount with exactly two decimals \
             (rounded). Some notes are quoted since they contain commas.",
            "Please compute statistics per {0} from {1} into {2}. Header: \
             '{0},count,largest,mean'. Skip rows without an amount; for the rest give the row \
             count, the highest amount and the average amount rounded to 2 decimals, always shown \
             with 2 (7.00). Order the rows by {0} from a to z. The column 'note' may have quoted \
             commas.",
        ],
        make: sheets::groups,
    },
    Template {
        name: "report",
        difficulty: Hard,
        parameters: &[STATUS, PLACE, JSON, NEW_JSON],
        phrasings: &[
            "{2} holds orders, each with a customer, a status and items. Write {3}: a JSON object \
             with a key for each {1} (of the customer) that has orders of status '{0}'. Its value \
             is an object with 'orders' (how many orders of that status), 'units' (the sum of the \
             items' count) and 'value' (the sum of count times price). Ignore other orders.",
            "Look only at orders with the status '{0}' in {2} and summarize them by the customer's \
             {1}. The result is one JSON object in {3} that maps each such {1} to {\"orders\": \
             number of orders, \"units\": total of count over their items, \"value\": total of \
             count * price over their items}. A {1} without '{0}' orders does not appear.",
            "Group the '{0}' orders of the JSON file {2} by customer {1} and save a JSON object to \
             {3}, keyed by {1}, whose values are objects with three numbers: orders (count of the \
             orders), units (their items' counts added up) and value (price multiplied by count, \
             added up over all items). Orders in any other status are left out.",
        ],
        make: documents::report,
    },
    Template {
        name: "apply",
        difficulty: Hard,
        parameters: &[SET, DROP, SCRIPT],
        phrasings: &[
            "Write a Bash script {2}, run as 'bash {2} BASE CHANGES', for files like base.csv and \
             changes.csv. It applies the changes to the base one after the other and prints the \
             new table: '{0}' replaces the row with that id or adds one, '{1}' takes the row with \
             that id away, if there is one. Print the header of the base, then the rows ordered by \
             id as a number, as CSV. No field needs quotes. The files are not changed.",
            "base.csv is a table, changes.csv a list of changes to it in the order in which they \
             happened. Make {2}, a Bash script that gets two such files as arguments (base first) \
             and writes the table as it is after all changes to standard output: header first, \
             rows by numeric id, CSV without quotes. The op '{0}' stores a row under its id, new \
             or not; the op '{1}' deletes the row with the id, or does nothing without one. Both \
             files stay as they are.",
            "I need {2}: 'bash {2} base.csv changes.csv' shall print base.csv with the changes of \
             changes.csv done, and likewise for other files of these two formats, which it must \
             not alter. Changes are done from top to bottom. '{0}': insert this row, or overwrite \
             the one with the same id. '{1}': delete the row with this id; it may be missing. \
             Output is CSV without quotes: the base's header, then rows sorted by id numerically.",
        ],
        make: sheets::apply,
    },
];
