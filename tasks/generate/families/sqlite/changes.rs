//! What changes the schema or the data.

use std::collections::BTreeSet;

use super::reads::{Product, products};
use super::{asked, database, query, run};
use crate::generate::families::words::{CITIES, GOODS, PEOPLE, csv, lines, row, untouched};
use crate::generate::random::Random;
use crate::generate::template::{Made, holds};

pub(super) fn column(values: &[&'static str], random: &mut Random) -> Made {
    let (column, value, price, db) = (values[0], values[1], values[2], values[3]);
    let least: usize = price.parse().unwrap_or(0);
    let (sql, all) = products(random, 10, least);
    let wanted = all.iter().map(|Product { id, name, price, stock }| {
        let value = if *price >= least { value } else { "0" };
        format!("{id}|{name}|{price}|{stock}|{value}|integer")
    });
    let select = format!(
        "SELECT id, name, price, stock, {column}, typeof({column}) FROM products ORDER BY id"
    );
    let later = format!(
        "BEGIN; INSERT INTO products (id, name, color, price, stock) VALUES (99, 'new', 'red', \
         900, 1); SELECT {column} FROM products WHERE id = 99; ROLLBACK"
    );
    let (start, setup) = database(db, &sql);
    let add = format!("ALTER TABLE products ADD COLUMN {column} INTEGER DEFAULT 0;");
    let update = |condition: &str| {
        run(db, &format!("{add}\nUPDATE products SET {column} = {value} WHERE {condition};"))
    };
    Made {
        start: vec![start],
        setup,
        end: vec![query(db, &select, &lines(wanted)), query(db, &later, "0")],
        solution: update(&format!("price >= {price}")),
        hard_coded: update("id IN (1, 2, 3)"),
        near_miss: update(&format!("price > {price}")),
        ..Made::default()
    }
}

pub(super) fn import(values: &[&'static str], random: &mut Random) -> Made {
    let (table, from, db) = (values[0], values[1], values[2]);
    let (sql, all) = products(random, 10, 500);
    let mut content = vec![row(&["id", "person", "city", "amount"])];
    let mut wanted = Vec::new();
    for at in 0..random.within(40..=70) {
        let (id, person) = (7 + 4 * at + at % 3, *random.pick(&PEOPLE));
        let city = *random.pick(&CITIES);
        let (amount, kind) = match at % 6 {
            2 => (String::new(), "null"),
            _ => (random.within(3..=800).to_string(), "integer"),
        };
        content.push(row(&[&id.to_string(), person, city, &amount]));
        wanted.push(format!("{id}|{person}|{city}|{amount}|integer|text|{kind}"));
    }
    let columns = "id, person, city, amount";
    let select = format!(
        "SELECT {columns}, typeof(id), typeof(city), typeof(amount) FROM {table} ORDER BY id"
    );
    let key = format!("SELECT name FROM pragma_table_info('{table}') WHERE pk");
    let (start, setup) = database(db, &sql);
    let file = (from.to_owned(), csv(&content) + "\n");
    let mut end = vec![query(db, &select, &lines(&wanted)), query(db, &key, "id")];
    let stock: usize = all.iter().map(|product| product.stock).sum();
    end.push(query(db, "SELECT count(*), sum(stock) FROM products", &format!("24|{stock}")));
    end.extend(untouched(std::slice::from_ref(&file)));
    let create = format!(
        "CREATE TABLE {table} (id INTEGER PRIMARY KEY, person TEXT, city TEXT, amount INTEGER);"
    );
    let load = format!("{create}\n.import --csv --skip 1 {from} {table}");
    Made {
        start: vec![start, file],
        setup,
        end,
        solution: run(db, &format!("{load}\nUPDATE {table} SET amount = NULL WHERE amount = '';")),
        hard_coded: run(
            db,
            &format!("{create}\nINSERT INTO {table} VALUES (7, 'Ada', 'Oslo', 5);"),
        ),
        near_miss: run(db, &load),
        ..Made::default()
    }
}

pub(super) fn unique(values: &[&'static str], random: &mut Random) -> Made {
    let (kept, table, db) = (values[0], values[1], values[2]);
    let people = random.some(&PEOPLE, 18);
    // Some occur twice, some three times, and not always as they were written first.
    let mut all: Vec<(&str, String)> = Vec::new();
    for (at, person) in people.iter().enumerate() {
        let lower = format!("{}@mail.test", person.to_lowercase());
        all.push((person, lower.clone()));
        if at % 2 == 0 {
            all.push((person, lower.replace("mail", "Mail")));
        }
        if at % 4 == 1 {
            all.extend([(*person, lower.clone()), (*person, lower.to_uppercase())]);
        }
    }
    let mut rows = Vec::new();
    for (at, (person, email)) in random.shuffled(&all).into_iter().enumerate() {
        rows.push((3 + 2 * at, person, email, *random.pick(&CITIES)));
    }
    let mut sql = vec![format!(
        "CREATE TABLE {table} (id INTEGER PRIMARY KEY, name TEXT, email TEXT, city TEXT);"
    )];
    // Ids are not in the order of insertion.
    sql.extend(random.shuffled(&rows).iter().map(|(id, name, email, city)| {
        format!("INSERT INTO {table} VALUES ({id}, '{name}', '{email}', '{city}');")
    }));
    let (function, mut ordered) = if kept == "lowest" {
        ("min", rows.clone())
    } else {
        ("max", rows.iter().rev().cloned().collect())
    };
    let mut seen = BTreeSet::new();
    ordered.retain(|(_, _, email, _)| seen.insert(email.to_lowercase()));
    ordered.sort_unstable();
    let wanted =
        ordered.iter().map(|(id, name, email, city)| format!("{id}|{name}|{email}|{city}"));
    let insert = |email: &str| {
        let sql = format!(
            "BEGIN; INSERT INTO {table} (id, name, email, city) VALUES (900, 'New', '{email}', \
             'Rome'); ROLLBACK"
        );
        asked(db, &sql)
    };
    let select = format!("SELECT id, name, email, city FROM {table} ORDER BY id");
    let (there, other) = (&ordered[0].2, "fresh@mail.test");
    let refuses = |email: &str| format!("! {} 2> /dev/null", insert(email));
    let end = vec![
        query(db, &select, &lines(wanted)),
        holds("an email that is there is refused", &refuses(there)),
        holds("an email that is there in capitals is refused", &refuses(&there.to_uppercase())),
        holds("and one in small letters", &refuses(&there.to_lowercase())),
        holds("a new email is accepted", &insert(other)),
        holds("a new email in capitals is accepted", &insert(&other.to_uppercase())),
    ];
    let (start, setup) = database(db, &sql);
    let program = |email: &str, index: &str| {
        run(
            db,
            &format!(
                "DELETE FROM {table} WHERE id NOT IN (SELECT {function}(id) FROM {table} GROUP BY \
                 {email});\n{index}"
            ),
        )
    };
    let index = |of: &str| format!("CREATE UNIQUE INDEX unique_email ON {table} ({of});");
    Made {
        start: vec![start],
        setup,
        end,
        solution: program("lower(email)", &index("lower(email)")),
        // The rows are right, but nothing keeps them so.
        hard_coded: program("lower(email)", ""),
        near_miss: program("email", &index("email")),
        ..Made::default()
    }
}

pub(super) fn repair(values: &[&'static str], random: &mut Random) -> Made {
    let (clients, orders, db) = (values[0], values[1], values[2]);
    let mut sql = vec![
        format!("CREATE TABLE {clients} (id INTEGER PRIMARY KEY, name TEXT);"),
        format!(
            "CREATE TABLE {orders} (id INTEGER PRIMARY KEY, client_id INTEGER, total INTEGER);"
        ),
        "CREATE TABLE items (id INTEGER PRIMARY KEY, order_id INTEGER, thing TEXT, count INTEGER, \
         price INTEGER);"
            .to_owned(),
    ];
    let people = random.some(&PEOPLE, 10);
    for (at, person) in people.iter().enumerate() {
        sql.push(format!("INSERT INTO {clients} VALUES ({}, '{person}');", at + 1));
    }
    // Of every eight orders one has no client and one no items; of every seven items one has no
    // order.
    let mut totals: Vec<(usize, usize, usize)> = Vec::new();
    let (mut lost, mut items) = (Vec::new(), Vec::new());
    let mut item = 0;
    for id in 1..=random.within(24..=34) {
        let own = if id % 8 == 3 { 0 } else { random.within(1..=3) };
        let mut total = 0;
        for _ in 0..own {
            item += 1;
            let (count, price) = (random.within(1..=5), random.within(3..=90));
            let thing = *random.pick(&GOODS);
            let order = if item % 7 == 4 { 500 + id } else { id };
            sql.push(format!(
                "INSERT INTO items VALUES ({item}, {order}, '{thing}', {count}, {price});"
            ));
            if order == id {
                total += count * price;
                items.push((id, format!("{item}|{order}|{thing}|{count}|{price}")));
            }
        }
        let client = random.within(1..=10);
        let (client, shown) = if id % 8 == 5 { (40 + client, total) } else { (client, total) };
        if client > 10 {
            lost.push(id);
        } else {
            totals.push((id, client, total));
        }
        let shown = if id % 3 == 0 { shown + random.within(1..=50) } else { shown };
        sql.push(format!("INSERT INTO {orders} VALUES ({id}, {client}, {shown});"));
    }
    items.retain(|(order, _)| !lost.contains(order));
    let (start, setup) = database(db, &sql);
    let wanted = totals.iter().map(|(id, client, total)| format!("{id}|{client}|{total}"));
    let named = people.iter().enumerate().map(|(at, person)| format!("{}|{person}", at + 1));
    let end = vec![
        query(
            db,
            &format!("SELECT id, client_id, total FROM {orders} ORDER BY id"),
            &lines(wanted),
        ),
        query(
            db,
            "SELECT id, order_id, thing, count, price FROM items ORDER BY id",
            &lines(items.iter().map(|(_, item)| item)),
        ),
        query(db, &format!("SELECT id, name FROM {clients} ORDER BY id"), &lines(named)),
    ];
    let drop_orders =
        format!("DELETE FROM {orders} WHERE client_id NOT IN (SELECT id FROM {clients});");
    let drop_items = format!("DELETE FROM items WHERE order_id NOT IN (SELECT id FROM {orders});");
    let sum = format!(
        "UPDATE {orders} SET total = (SELECT ifnull(sum(count * price), 0) FROM items WHERE \
         order_id = {orders}.id);"
    );
    Made {
        start: vec![start],
        setup,
        end,
        solution: run(db, &format!("{drop_orders}\n{drop_items}\n{sum}")),
        hard_coded: run(db, &format!("{drop_orders}\n{drop_items}")),
        // Leaves the items of the orders that go after them.
        near_miss: run(db, &format!("{drop_items}\n{drop_orders}\n{sum}")),
        ..Made::default()
    }
}

pub(super) fn tags(values: &[&'static str], random: &mut Random) -> Made {
    let (tags, link, db) = (values[0], values[1], values[2]);
    let names = ["art", "sea", "war", "law", "food", "travel", "music", "poems", "youth", "trade"];
    let mut sql =
        vec![format!("CREATE TABLE books (id INTEGER PRIMARY KEY, title TEXT, {tags} TEXT);")];
    let (mut books, mut pairs) = (Vec::new(), BTreeSet::new());
    let mut used = BTreeSet::new();
    for at in 0..random.within(22..=32) {
        let id = 4 + 3 * at;
        let title = format!("The {} of {}", random.pick(&GOODS), random.pick(&CITIES));
        let count = if at % 9 == 5 { 0 } else { random.within(1..=4) };
        let mut own = random.some(&names, count);
        used.extend(own.iter().copied());
        pairs.extend(own.iter().map(|name| format!("{id}|{name}")));
        if at % 4 == 2 && count > 0 {
            own.push(own[0]);
        }
        let joint = if at % 3 == 1 { ", " } else { "," };
        let list = own.join(joint);
        sql.push(format!("INSERT INTO books VALUES ({id}, '{title}', '{list}');"));
        books.push(format!("{id}|{title}"));
    }
    let (start, setup) = database(db, &sql);
    let end = vec![
        query(db, "SELECT * FROM books ORDER BY id", &lines(&books)),
        query(db, &format!("SELECT name FROM {tags} ORDER BY name"), &lines(&used)),
        query(db, &format!("SELECT name FROM pragma_table_info('{tags}') WHERE pk"), "id"),
        query(
            db,
            &format!(
                "SELECT book || '|' || name AS pair FROM {link} JOIN {tags} ON {tags}.id = tag \
                 ORDER BY pair"
            ),
            &lines(&pairs),
        ),
        holds(
            "a second row of a name is refused",
            &format!(
                "! {} 2> /dev/null",
                asked(
                    db,
                    &format!(
                        "BEGIN; INSERT INTO {tags} (name) SELECT name FROM {tags} LIMIT 1; \
                         ROLLBACK"
                    )
                )
            ),
        ),
    ];
    let program = |name: &str| {
        vec![format!(
            r#"python3 - <<'PROGRAM'
import sqlite3
db = sqlite3.connect("{db}")
db.execute("CREATE TABLE {tags} (id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
db.execute("CREATE TABLE {link} (book INTEGER, tag INTEGER, PRIMARY KEY (book, tag))")
for book, names in db.execute("SELECT id, {tags} FROM books").fetchall():
    for name in filter(None, ({name} for name in names.split(","))):
        db.execute("INSERT OR IGNORE INTO {tags} (name) VALUES (?)", [name])
        db.execute("INSERT OR IGNORE INTO {link} SELECT ?, id FROM {tags} WHERE name = ?",
                   [book, name])
db.execute("ALTER TABLE books DROP COLUMN {tags}")
db.commit()
PROGRAM"#
        )]
    };
    let fixed = format!(
        "CREATE TABLE {tags} (id INTEGER PRIMARY KEY, name TEXT UNIQUE);\nINSERT INTO {tags} \
         (name) VALUES ('art'), ('sea'), ('war');\nCREATE TABLE {link} (book INTEGER, tag \
         INTEGER);\nALTER TABLE books DROP COLUMN {tags};"
    );
    Made {
        start: vec![start],
        setup,
        end,
        solution: program("name.strip()"),
        hard_coded: run(db, &fixed),
        near_miss: program("name"),
        ..Made::default()
    }
}
