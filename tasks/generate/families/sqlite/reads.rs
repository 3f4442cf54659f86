//! What leaves the data as it is.

use super::{database, query, run};
use crate::generate::families::words::{CITIES, COLORS, GOODS, PEOPLE, lines};
use crate::generate::random::Random;
use crate::generate::template::{Made, text, write};

pub(super) struct Product {
    pub(super) id: usize,
    pub(super) name: &'static str,
    pub(super) price: usize,
    pub(super) stock: usize,
}

/// A table of products: each third has this stock, one has this price.
pub(super) fn products(
    random: &mut Random,
    stock: usize,
    price: usize,
) -> (Vec<String>, Vec<Product>) {
    let mut prices: Vec<usize> = (20..=999).filter(|other| *other != price).collect();
    prices = random.some(&prices, GOODS.len());
    let mut sql = vec![
        "CREATE TABLE products (id INTEGER PRIMARY KEY, name TEXT, color TEXT, price INTEGER, \
         stock INTEGER);"
            .to_owned(),
    ];
    let mut all = Vec::new();
    for (at, name) in random.shuffled(&GOODS).into_iter().enumerate() {
        let own_stock = if at % 3 == 1 { stock } else { random.within(0..=30) };
        let own_price = if at == 5 { price } else { prices[at] };
        // Some are below the limit, whatever it is.
        let own_stock = if at % 6 == 2 { stock - 1 } else { own_stock };
        let color = random.pick(&COLORS);
        sql.push(format!(
            "INSERT INTO products VALUES ({}, '{name}', '{color}', {own_price}, {own_stock});",
            at + 1
        ));
        all.push(Product { id: at + 1, name, price: own_price, stock: own_stock });
    }
    (sql, all)
}

pub(super) fn select(values: &[&'static str], random: &mut Random) -> Made {
    let (limit, db, to) = (values[0], values[1], values[2]);
    let below: usize = limit.parse().unwrap_or(0);
    let (sql, mut all) = products(random, below, 500);
    let whole: usize = all.iter().map(|product| product.stock).sum();
    all.sort_by_key(|product| product.price);
    let names: Vec<&str> =
        all.iter().filter(|product| product.stock < below).map(|product| product.name).collect();
    let (start, setup) = database(db, &sql);
    let program = |compare: &str| {
        vec![format!(
            "sqlite3 {db} 'SELECT name FROM products WHERE stock {compare} {limit} ORDER BY price' \
             > {to}"
        )]
    };
    Made {
        start: vec![start],
        setup,
        end: vec![
            text(to, &lines(&names)),
            query(db, "SELECT count(*), sum(stock) FROM products", &format!("24|{whole}")),
        ],
        solution: program("<"),
        hard_coded: vec![write(to, names[0])],
        near_miss: program("<="),
        ..Made::default()
    }
}

pub(super) fn view(values: &[&'static str], random: &mut Random) -> Made {
    let (view, status, db) = (values[0], values[1], values[2]);
    let people = random.some(&PEOPLE, 12);
    let mut sql = vec![
        "CREATE TABLE clients (id INTEGER PRIMARY KEY, name TEXT, city TEXT);".to_owned(),
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, client_id INTEGER, status TEXT, amount \
         INTEGER);"
            .to_owned(),
    ];
    let mut sums: Vec<(&str, usize, usize)> = Vec::new();
    for (at, person) in people.iter().enumerate() {
        let city = random.pick(&CITIES);
        sql.push(format!("INSERT INTO clients VALUES ({}, '{person}', '{city}');", at + 1));
        sums.push((person, 0, 0));
    }
    // The first has no orders, the second none that count.
    for at in 0..random.within(40..=60) {
        let who = if at < 2 { 1 } else { random.within(2..=11) };
        let own =
            if at < 2 || at % 4 == 3 { status } else { *random.pick(&["paid", "open", "sent"]) };
        let amount = random.within(5..=300);
        sql.push(format!(
            "INSERT INTO orders VALUES ({}, {}, '{own}', {amount});",
            at + 1,
            who + 1
        ));
        if own != status {
            sums[who].1 += 1;
            sums[who].2 += amount;
        }
    }
    let listed = |sums: &[(&str, usize, usize)]| {
        let mut all: Vec<String> =
            sums.iter().map(|(name, count, sum)| format!("{name}|{count}|{sum}")).collect();
        all.sort_unstable();
        lines(all)
    };
    // `total()` makes it a float.
    let select =
        format!("SELECT client, orders, CAST(total AS INTEGER) FROM {view} ORDER BY client");
    let now = listed(&sums);
    // Later orders of the first two, and a client who is new.
    let later = format!(
        "BEGIN; INSERT INTO clients VALUES (90, 'Zed', 'Rome'); INSERT INTO orders VALUES (900, 1, \
         'paid', 41), (901, 2, 'open', 17), (902, 2, '{status}', 99); {select}; ROLLBACK"
    );
    let mut after = sums.clone();
    after[0] = (people[0], 1, 41);
    after[1] = (people[1], 1, 17);
    after.push(("Zed", 0, 0));
    let (start, setup) = database(db, &sql);
    let program = |condition: &str| {
        run(
            db,
            &format!(
                "CREATE VIEW {view} AS SELECT clients.name AS client, count(orders.id) AS orders, \
                 ifnull(sum(orders.amount), 0) AS total FROM clients LEFT JOIN orders ON \
                 orders.client_id = clients.id {condition} orders.status <> '{status}' GROUP BY \
                 clients.id;"
            ),
        )
    };
    let fixed = sums.iter().map(|(name, count, sum)| format!("('{name}', {count}, {sum})"));
    let fixed = lines(fixed).replace('\n', ", ");
    Made {
        start: vec![start],
        setup,
        end: vec![query(db, &select, &now), query(db, &later, &listed(&after))],
        solution: program("AND"),
        hard_coded: run(
            db,
            &format!(
                "CREATE TABLE {view} (client TEXT, orders INTEGER, total INTEGER);\nINSERT INTO \
                 {view} VALUES {fixed};"
            ),
        ),
        // Drops those whom nothing is left of.
        near_miss: program("WHERE"),
        ..Made::default()
    }
}
