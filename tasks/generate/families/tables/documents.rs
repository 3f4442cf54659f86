//! From and to JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::generate::families::words::{
    self, CITIES, COLORS, GOODS, PEOPLE, csv, lines, python, row, rows, rows_program, untouched,
};
use crate::generate::random::Random;
use crate::generate::template::{Made, has, write};

/// An array, an element on each line.
fn array(elements: &[Value]) -> String {
    format!("[\n{}\n]", elements.iter().map(|it| format!("  {it}")).collect::<Vec<_>>().join(",\n"))
}

pub(super) fn to_json(values: &[&'static str], random: &mut Random) -> Made {
    let (from, to) = (values[0], values[1]);
    let mut table = vec![row(&["id", "title", "color", "price", "stock"])];
    let mut wanted = Vec::new();
    for at in 0..random.within(20..=35) {
        let good = *random.pick(&GOODS);
        let title = match at % 5 {
            1 => format!("{good}, large"),
            3 => format!("{good} \"{}\"", random.pick(&PEOPLE)),
            _ => good.to_owned(),
        };
        let (id, price) = (20 + 3 * at, random.within(100..=9999));
        let color = if at % 6 == 2 { "" } else { *random.pick(&COLORS) };
        let stock = if at % 7 == 4 { None } else { Some(random.within(0..=50)) };
        let shown = stock.map_or(String::new(), |stock| stock.to_string());
        table.push(row(&[&id.to_string(), &title, color, &price.to_string(), &shown]));
        let color = if color.is_empty() { Value::Null } else { json!(color) };
        wanted.push(json!({
            "id": id, "title": title, "color": color, "price": price, "stock": stock,
        }));
    }
    let start = vec![has(from, &csv(&table))];
    let mut end = vec![words::json(to, "want.json")];
    end.extend(untouched(&start));
    let program = |convert: &str| {
        python(&format!(
            r#"import csv, json
rows = list(csv.DictReader(open("{from}")))
for row in rows:
    for key, value in row.items():
        {convert}
json.dump(rows, open("{to}", "w"))"#
        ))
    };
    let number = r#"int(value) if key in ("id", "price", "stock") else value"#;
    Made {
        start,
        hidden: vec![has("want.json", &array(&wanted))],
        end,
        solution: program(&format!("row[key] = None if value == \"\" else {number}")),
        hard_coded: vec![write(to, &array(&wanted[..2]))],
        near_miss: program("row[key] = value or None"),
        ..Made::default()
    }
}

pub(super) fn to_csv(values: &[&'static str], random: &mut Random) -> Made {
    let (joint, from, to) = (values[0], values[1], values[2]);
    let skills = ["cook", "drive", "sing", "weld", "paint", "swim", "type", "sew"];
    // Below and above 100, so that the order of numbers is not that of their digits.
    let ids: Vec<usize> = (0..random.within(20..=34)).map(|at| 31 + 7 * at + at % 3).collect();
    let ids = random.shuffled(&ids);
    let (mut people, mut by_id) = (Vec::new(), BTreeMap::new());
    for (at, id) in ids.into_iter().enumerate() {
        let (name, city) = (*random.pick(&PEOPLE), *random.pick(&CITIES));
        let name = format!("{name} {}", random.pick(&["North", "Lake", "Hill", "Stone", "Reed"]));
        let count = random.within(0..=3);
        let own = random.some(&skills, count);
        let mut person = json!({"id": id, "name": name});
        if at % 6 != 3 {
            person["address"] = json!({"street": format!("Road {}", at + 2), "city": city});
        }
        person["skills"] = json!(own);
        people.push(person);
        let city = if at % 6 == 3 { "" } else { city };
        by_id.insert(id, (id.to_string(), name, city, own));
    }
    let mut wanted = vec![row(&["id", "name", "city", "skills"])];
    wanted.extend(
        by_id.values().map(|(id, name, city, own)| row(&[id, name, city, &own.join(joint)])),
    );
    let start = vec![has(from, &array(&people))];
    let mut end = vec![rows(to, &wanted)];
    end.extend(untouched(&start));
    let program = |by: &str| {
        vec![format!(
            "(echo id,name,city,skills; jq -r 'sort_by({by})[] | [.id, .name, .address.city // \
             \"\", (.skills | join(\"{joint}\"))] | @csv' {from}) > {to}"
        )]
    };
    Made {
        start,
        hidden: vec![rows_program()],
        end,
        solution: program(".id"),
        hard_coded: vec![write(to, &csv(&wanted[..3]))],
        near_miss: program(".id | tostring"),
        ..Made::default()
    }
}

pub(super) fn report(values: &[&'static str], random: &mut Random) -> Made {
    let (status, by, from, to) = (values[0], values[1], values[2], values[3]);
    let people = random.some(&PEOPLE, 9);
    let cities = random.some(&CITIES, 4);
    let statuses = ["paid", "open", "sent", "late", "void"];
    let mut orders = Vec::new();
    let mut sums: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
    for at in 0..random.within(35..=50) {
        let who = random.within(0..=8);
        let (name, city) = (people[who], cities[who % 4]);
        let own = if at % 3 == 0 { status } else { *random.pick(&statuses) };
        let count = random.within(1..=4);
        let goods = random.some(&GOODS, count);
        let mut items = Vec::new();
        for good in goods {
            let (count, price) = (random.within(2..=6), random.within(10..=250));
            items.push(json!({"thing": good, "count": count, "price": price}));
            if own == status {
                let sum = sums.entry(if by == "name" { name } else { city }).or_default();
                sum[1] += count;
                sum[2] += count * price;
            }
        }
        if own == status {
            sums.entry(if by == "name" { name } else { city }).or_default()[0] += 1;
        }
        let customer = json!({"name": name, "city": city});
        orders.push(json!({
            "number": 300 + at, "customer": customer, "status": own, "items": items,
        }));
    }
    let wanted = sums.iter().map(|(key, [orders, units, value])| {
        format!("\"{key}\": {}", json!({"orders": orders, "units": units, "value": value}))
    });
    let wanted = format!("{{{}}}", lines(wanted).replace('\n', ", "));
    let start = vec![has(from, &array(&orders))];
    let mut end = vec![words::json(to, "want.json")];
    end.extend(untouched(&start));
    let program = |value: &str| {
        vec![format!(
            "jq 'map(select(.status == \"{status}\")) | group_by(.customer.{by}) | \
             map({{(.[0].customer.{by}): {{orders: length, units: map(.items[].count) | add, \
             value: map(.items[] | {value}) | add}}}}) | add' {from} > {to}"
        )]
    };
    Made {
        start,
        hidden: vec![has("want.json", &wanted)],
        end,
        solution: program(".count * .price"),
        hard_coded: vec![write(to, "{\"Ada\": {\"orders\": 1, \"units\": 2, \"value\": 20}}")],
        near_miss: program(".price"),
        ..Made::default()
    }
}
