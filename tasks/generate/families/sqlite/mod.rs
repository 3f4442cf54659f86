//! SQLite databases: queries, imports, views, schema changes, and repairs of data.

mod changes;
mod reads;

use crate::generate::Difficulty::{Easy, Hard, Medium};
use crate::generate::Family;
use crate::generate::families::words::lines;
use crate::generate::template::{End, Parameter, Template, has, output, quoted};

pub(super) const FAMILY: Family = Family {
    name: "sqlite",
    about: "SQLite databases: queries, imports, views, schema changes, repairs of data",
    templates: &TEMPLATES,
};

const DATABASE: Parameter =
    Parameter { values: &["shop.db", "store.db", "main.db", "data.db", "books.db", "office.db"] };

const OUTPUT: Parameter =
    Parameter { values: &["names.txt", "result.txt", "list.txt", "low.txt", "found.txt"] };

const STOCK: Parameter = Parameter { values: &["8", "10", "12", "15", "20"] };

const COLUMN: Parameter =
    Parameter { values: &["discount", "bonus", "rebate", "points", "fee", "rank"] };

const VALUE: Parameter = Parameter { values: &["5", "10", "15", "20"] };

const PRICE: Parameter = Parameter { values: &["200", "300", "400", "500"] };

const NEW_TABLE: Parameter =
    Parameter { values: &["payments", "refunds", "visits", "trips", "grants", "scores"] };

const CSV: Parameter =
    Parameter { values: &["input.csv", "export.csv", "rows.csv", "march.csv", "april.csv"] };

const KEPT: Parameter = Parameter { values: &["lowest", "highest"] };

const PERSONS: Parameter = Parameter { values: &["users", "members", "contacts", "readers"] };

const VIEW: Parameter =
    Parameter { values: &["summary", "overview", "ranking", "totals", "balance"] };

const STATUS: Parameter = Parameter { values: &["void", "lost", "test"] };

const CLIENTS: Parameter = Parameter { values: &["clients", "buyers", "guests", "people"] };

const ORDERS: Parameter = Parameter { values: &["orders", "sales", "bills", "deals"] };

const TAGS: Parameter = Parameter { values: &["tags", "topics", "labels", "genres"] };

const LINK: Parameter = Parameter { values: &["links", "pairs", "uses", "marks"] };

static TEMPLATES: [Template; 7] = [
    Template {
        name: "select",
        difficulty: Easy,
        parameters: &[STOCK, DATABASE, OUTPUT],
        phrasings: &[
            "The SQLite database {1} has a table 'products'. Write the names of the products of \
             which fewer than {0} are in stock into {2}, one a line, cheapest first. No two have \
             the same price.",
            "List all products in {1} (SQLite, table 'products') whose stock is below {0}: only \
             their names, a line each, ordered by rising price. Save the list as {2}. Prices are \
             all different.",
            "Query the table 'products' of the SQLite file {1} for rows with a stock less than {0} \
             and put their names, sorted by price in ascending order, one per line into {2}.",
        ],
        make: reads::select,
    },
    Template {
        name: "column",
        difficulty: Easy,
        parameters: &[COLUMN, VALUE, PRICE, DATABASE],
        phrasings: &[
            "Add an integer column '{0}' to the table 'products' in the SQLite database {3}. It is \
             {1} for products with a price of {2} or more and 0 for the others, and rows that are \
             inserted later without it get 0.",
            "In {3}, an SQLite database, extend the table 'products' by a column {0} of type \
             INTEGER whose default is 0. Then set {0} to {1} wherever the price is at least {2}; \
             all other products have 0.",
            "The table 'products' of the SQLite file {3} needs a new integer column {0}. Products \
             that cost {2} or more have the value {1} in it, cheaper ones 0; 0 is also its default \
             for new rows. Change nothing else.",
        ],
        make: changes::column,
    },
    Template {
        name: "import",
        difficulty: Medium,
        parameters: &[NEW_TABLE, CSV, DATABASE],
        phrasings: &[
            "Import {1} into a new table '{0}' of the SQLite database {2}, which has other tables \
             already. Its columns are id (an integer, the primary key), person and city (text) and \
             amount (integer). The first line of the file is a header and not a row. Where a row \
             has no amount, store NULL.",
            "Create a table {0} in {2} (SQLite) with the columns id INTEGER PRIMARY KEY, person \
             TEXT, city TEXT, amount INTEGER, and fill it with the rows of {1}. Skip its header \
             line, and let empty amounts become NULL. Leave the rest of the database as it is.",
            "Load the CSV file {1} into the SQLite database {2} as table {0}. Names of the columns \
             are as in the header, which itself must not become a row. id is the integer primary \
             key, amount is stored as an integer, or as NULL where the field is empty; person and \
             city are text. Do not touch other tables.",
        ],
        make: changes::import,
    },
    Template {
        name: "unique",
        difficulty: Medium,
        parameters: &[KEPT, PERSONS, DATABASE],
        phrasings: &[
            "In the table '{1}' of the SQLite database {2} some email addresses occur more than \
             once, also in different case (A@x and a@X are the same). Keep only the row with the \
             {0} id of each address, unchanged, and make the database refuse a further row whose \
             email is there already in whatever case. New addresses must still be accepted.",
            "Clean up table {1} in {2} (SQLite): of rows whose emails are equal when case is \
             ignored, delete all but the one with the {0} id. Do not alter the rows that stay. \
             Then add a unique index, or the like, so that inserting an email that differs at most \
             in case from one in the table fails, while others can be inserted.",
            "The SQLite file {2} has duplicate {1}: rows with the same email apart from upper and \
             lower case. For every email, let only the row with the {0} id remain as it is. After \
             that, it must not be possible to insert such a duplicate again, again regardless of \
             case; rows with other emails are welcome.",
        ],
        make: changes::unique,
    },
    Template {
        name: "view",
        difficulty: Medium,
        parameters: &[VIEW, STATUS, DATABASE],
        phrasings: &[
            "Create a view '{0}' in the SQLite database {2} with a row for every client in the \
             table 'clients' and the columns client (the name), orders (the number of orders) and \
             total (the sum of their amounts). Orders with status '{1}' do not count. Clients \
             without any have 0 and 0.",
            "{2} is an SQLite database with clients and their orders. Add a view {0} with columns \
             client, orders, total: for each client the name, how many orders, and the amounts \
             added up, leaving out orders whose status is '{1}'. Each client is listed, with 0 in \
             both columns if nothing is left.",
            "I want to be able to run 'SELECT client, orders, total FROM {0}' on the SQLite file \
             {2} and always get the current figures: per client the name, the count and the summed \
             amount of the orders that do not have the status '{1}'. Those without such orders \
             show up with 0 orders and a total of 0. Make {0} a view.",
        ],
        make: reads::view,
    },
    Template {
        name: "repair",
        difficulty: Hard,
        parameters: &[CLIENTS, ORDERS, DATABASE],
        phrasings: &[
            "The data in the SQLite database {2} is damaged. Remove every row of '{1}' whose \
             client_id is not the id of any row in '{0}'. Then no row of 'items' may have an \
             order_id that is not in '{1}': remove those too. Finally set total in '{1}' to the \
             sum of count * price over its items, or 0 if it has none. All else stays.",
            "Repair {2} (SQLite): first delete from {1} what belongs to no one in {0} (client_id \
             refers to {0}.id), then delete from items what belongs to nothing in {1} (order_id \
             refers to {1}.id), and at last correct {1}.total, which has to be the sum of \
             items.count times items.price, 0 where there are no items. Change no other data.",
            "There are no foreign keys in the SQLite file {2}, and it shows. In the end each row \
             of {1} must have its client_id in {0}, each row of items its order_id in {1}; delete \
             the rows that break this, including items of deleted {1}. total of a row in {1} must \
             be count * price added up over its items, and 0 without items. Leave all other values \
             and rows as they are.",
        ],
        make: changes::repair,
    },
    Template {
        name: "tags",
        difficulty: Hard,
        parameters: &[TAGS, LINK, DATABASE],
        phrasings: &[
            "The table 'books' of the SQLite database {2} has a column '{0}' with lists such as \
             'art, sea,war'. Make a table '{0}' (id INTEGER PRIMARY KEY, name TEXT UNIQUE) with \
             each name once, and a table '{1}' (book, tag) with a row for each book's id and each \
             id of '{0}' that the book has, no pair twice. Names have no spaces around them. In \
             the end, drop the column '{0}' from 'books'.",
            "Normalize {2} (SQLite). books.{0} is a text of names separated by commas, with stray \
             spaces and repetitions; it is empty for some books. Store every distinct name, \
             without spaces around it, once in a new table {0} with columns id (integer primary \
             key) and name (unique), and which book has which in a new table {1} with columns book \
             (books.id) and tag ({0}.id), each pair once. Then remove the column {0} of books.",
            "Please split up the comma-separated column {0} of the table books in the SQLite file \
             {2}: a new table {0} lists the names (columns: id, the integer primary key, and name, \
             which is unique), a new table {1} connects books to them (columns: book, a book's id, \
             and tag, an id from {0}) without repeated rows. Trim spaces around names and skip \
             empty ones. When this is done, books must not have the column {0} any more.",
        ],
        make: changes::tags,
    },
];

/// A database as it is at the start: the file with its SQL, and the commands that make it.
fn database(name: &str, sql: &[String]) -> ((String, String), Vec<String>) {
    let sql = format!("BEGIN;\n{}\nCOMMIT;", lines(sql));
    (has("make.sql", &sql), vec![format!("sqlite3 {name} < make.sql"), "rm make.sql".to_owned()])
}

/// What a query writes, whatever the agent's own settings are.
fn query(database: &str, sql: &str, wanted: &str) -> End {
    output(&asked(database, sql), wanted)
}

fn asked(database: &str, sql: &str) -> String {
    format!("sqlite3 -init /dev/null -batch -bail -noheader -list {database} {}", quoted(sql))
}

/// A command for the solutions.
fn run(database: &str, sql: &str) -> Vec<String> {
    vec![format!("sqlite3 {database} <<'SQL'\n{sql}\nSQL")]
}
