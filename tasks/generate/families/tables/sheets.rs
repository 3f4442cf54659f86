//! From CSV to CSV.

use std::collections::BTreeMap;

use crate::generate::families::words::{
    CITIES, COLORS, GOODS, PEOPLE, csv, lines, python, row, rows, rows_program, untouched,
};
use crate::generate::random::Random;
use crate::generate::template::{Made, has, output, write};

pub(super) fn filter(values: &[&'static str], random: &mut Random) -> Made {
    let (city, from, to) = (values[0], values[1], values[2]);
    let header = row(&["id", "customer", "origin", "destination", "weight"]);
    let others: Vec<&str> = CITIES.into_iter().filter(|other| *other != city).collect();
    let mut table = vec![header];
    for at in 0..random.within(40..=70) {
        // Some come from there, some go there, most do neither.
        let (origin, destination) = match at % 7 {
            2 => (city, *random.pick(&others)),
            4 => (*random.pick(&others), city),
            _ => (*random.pick(&others), *random.pick(&others)),
        };
        let (id, weight) = ((1001 + at).to_string(), random.within(1..=40).to_string());
        table.push(row(&[&id, *random.pick(&PEOPLE), origin, destination, &weight]));
    }
    let kept = |row: &&Vec<String>| row[3] == city || row[3] == "destination";
    let wanted: Vec<Vec<String>> = table.iter().filter(kept).cloned().collect();
    let start = vec![has(from, &csv(&table))];
    let mut end = vec![rows(to, &wanted)];
    end.extend(untouched(&start));
    Made {
        start,
        hidden: vec![rows_program()],
        end,
        solution: vec![format!("awk -F , 'NR == 1 || $4 == \"{city}\"' {from} > {to}")],
        hard_coded: vec![format!("head -n 6 {from} | grep -e id -e {city} > {to}")],
        near_miss: vec![format!("(head -n 1 {from}; grep {city} {from}) > {to}")],
        ..Made::default()
    }
}

pub(super) fn spending(values: &[&'static str], random: &mut Random) -> Made {
    let (orders, to) = (values[0], values[1]);
    let people = random.some(&PEOPLE, 16);
    let ids: Vec<usize> = (0..16).map(|at| 11 + 6 * at + at % 4).collect();
    let ids = random.shuffled(&ids);
    let mut customers = vec![row(&["id", "name", "city"])];
    let mut sums: Vec<(String, usize, usize)> = Vec::new();
    for (id, person) in ids.iter().zip(&people) {
        customers.push(row(&[&id.to_string(), person, *random.pick(&CITIES)]));
        sums.push(((*person).to_owned(), 0, 0));
    }
    // The last three have no orders; two have the same total.
    let mut entries: Vec<(usize, usize)> = vec![(0, 70), (0, 30), (1, 55), (1, 45)];
    for _ in 0..random.within(30..=50) {
        entries.push((random.within(2..=12), random.within(5..=99)));
    }
    let mut table = vec![row(&["number", "customer", "date", "amount"])];
    for (at, (who, amount)) in random.shuffled(&entries).into_iter().enumerate() {
        sums[who].1 += 1;
        sums[who].2 += amount;
        let date = format!("2024-05-{:02}", 1 + at / 2);
        table.push(row(&[
            &(501 + at).to_string(),
            &ids[who].to_string(),
            &date,
            &amount.to_string(),
        ]));
    }
    sums.sort_by_key(|(name, _, total)| (std::cmp::Reverse(*total), name.clone()));
    let mut wanted = vec![row(&["name", "orders", "total"])];
    wanted.extend(
        sums.iter().map(|(name, count, sum)| row(&[name, &count.to_string(), &sum.to_string()])),
    );
    let start = vec![has("customers.csv", &csv(&customers)), has(orders, &csv(&table))];
    let mut end = vec![rows(to, &wanted)];
    end.extend(untouched(&start));
    let program = |skip: &str| {
        python(&format!(
            r#"import csv
orders = list(csv.DictReader(open("{orders}")))
rows = []
for customer in csv.DictReader(open("customers.csv")):
    own = [int(o["amount"]) for o in orders if o["customer"] == customer["id"]]
    {skip}rows.append([customer["name"], len(own), sum(own)])
rows.sort(key=lambda row: (-row[2], row[0]))
with open("{to}", "w") as file:
    csv.writer(file).writerows([["name", "orders", "total"]] + rows)"#
        ))
    };
    Made {
        start,
        hidden: vec![rows_program()],
        end,
        solution: program(""),
        hard_coded: vec![write(to, &csv(&wanted[..4]))],
        near_miss: program("if own: "),
        ..Made::default()
    }
}

pub(super) fn groups(values: &[&'static str], random: &mut Random) -> Made {
    let (by, from, to) = (values[0], values[1], values[2]);
    let people = random.some(&PEOPLE, 4);
    let goods = random.some(&GOODS, 5);
    let regions = ["north", "south", "east", "west"];
    let notes = ["gift", "no rush", "call first, then ring", "blue, large", "fragile", ""];
    let header = row(&["id", "note", "region", "clerk", "product", "amount"]);
    let column = header.iter().position(|name| name == by).unwrap_or(2);
    let mut table = vec![header];
    for at in 0..random.within(60..=90) {
        let (person, good) = (people[at % 4], *random.pick(&goods));
        let amount = if at % 9 == 4 { String::new() } else { random.within(2..=300).to_string() };
        let note = *random.pick(&notes);
        let note = if at == 0 { "red, not blue" } else { note };
        table.push(row(&[
            &(1 + at).to_string(),
            note,
            *random.pick(&regions),
            person,
            good,
            &amount,
        ]));
    }
    let mut wanted = vec![row(&[by, "count", "largest", "mean"])];
    let amount = |row: &[String]| row[5].parse::<usize>().ok();
    let mut by_group: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, row) in table.iter().enumerate().skip(1) {
        if amount(row).is_some() {
            by_group.entry(row[column].clone()).or_default().push(index);
        }
    }
    for (group, members) in by_group {
        let sum = |table: &[Vec<String>]| {
            members.iter().filter_map(|at| amount(&table[*at])).sum::<usize>()
        };
        let count = members.len();
        // Half a cent would be rounded up by one tool and down by another.
        let first = members[0];
        while (100 * sum(&table)) % count * 2 == count {
            table[first][5] = (amount(&table[first]).unwrap_or(0) + 1).to_string();
        }
        let largest = members.iter().filter_map(|at| amount(&table[*at])).max().unwrap_or(0);
        let cents = (200 * sum(&table) + count) / (2 * count);
        let mean = format!("{}.{:02}", cents / 100, cents % 100);
        wanted.push(row(&[&group, &count.to_string(), &largest.to_string(), &mean]));
    }
    let start = vec![has(from, &csv(&table))];
    let mut end = vec![rows(to, &wanted)];
    end.extend(untouched(&start));
    let write_out = format!(
        r#"with open("{to}", "w") as file:
    print("{by},count,largest,mean", file=file)
    for key, own in sorted(groups.items()):
        print(key, len(own), max(own), "%.2f" % (sum(own) / len(own)), sep=",", file=file)"#
    );
    let program = |empty: &str| {
        python(&format!(
            r#"import csv
groups = {{}}
for row in csv.DictReader(open("{from}")):
    {empty}
{write_out}"#
        ))
    };
    let add = format!("groups.setdefault(row[\"{by}\"], [])");
    Made {
        start,
        hidden: vec![rows_program()],
        end,
        solution: program(&format!("if row[\"amount\"]: {add}.append(int(row[\"amount\"]))")),
        hard_coded: vec![write(to, &csv(&wanted[..2]))],
        near_miss: program(&format!("{add}.append(int(row[\"amount\"] or 0))")),
        ..Made::default()
    }
}

pub(super) fn apply(values: &[&'static str], random: &mut Random) -> Made {
    let (set, drop, script) = (values[0], values[1], values[2]);
    let ops = [set, drop];
    let shown = some_changes(random, ops, 8, 6);
    let hidden = [some_changes(random, ops, 25, 16), some_changes(random, ops, 12, 20)];
    let start = vec![has("base.csv", &shown.base), has("changes.csv", &shown.changes)];
    let run = |base: &str, changes: &str, wanted: &str| {
        let input = "< /dev/null 2> /dev/null";
        output(&format!("timeout 5 bash {script} {base} {changes} {input} | tr -d '\\r'"), wanted)
    };
    let mut end = vec![run("base.csv", "changes.csv", &shown.wanted)];
    let mut files = Vec::new();
    for (at, case) in hidden.iter().enumerate() {
        let [base, changes] = ["base", "changes"].map(|name| format!("{name}{at}.csv"));
        end.push(run(&format!("/tests/{base}"), &format!("/tests/{changes}"), &case.wanted));
        files.extend([has(&base, &case.base), has(&changes, &case.changes)]);
    }
    end.extend(untouched(&start));
    let program = |change: &str| {
        format!(
            r#"python3 - "$1" "$2" <<'PROGRAM'
import csv, sys
base = list(csv.reader(open(sys.argv[1])))
rows = {{row[0]: row for row in base[1:]}}
changes = list(csv.reader(open(sys.argv[2])))[1:]
{change}
print(",".join(base[0]))
for row in sorted(rows.values(), key=lambda row: int(row[0])):
    print(",".join(row))
PROGRAM"#
        )
    };
    let in_order = program(&format!(
        r#"for op, *row in changes:
    if op == "{set}": rows[row[0]] = row
    else: rows.pop(row[0], None)"#
    ));
    let drop_last = program(&format!(
        r#"rows.update({{row[0]: row for op, *row in changes if op == "{set}"}})
for op, *row in changes:
    if op == "{drop}": rows.pop(row[0], None)"#
    ));
    Made {
        start,
        hidden: files,
        end,
        solution: vec![write(script, &in_order)],
        hard_coded: vec![write(script, &format!("cat <<'SAID'\n{}\nSAID", shown.wanted))],
        near_miss: vec![write(script, &drop_last)],
        ..Made::default()
    }
}

struct Changes {
    base: String,
    changes: String,
    wanted: String,
}

/// A table and changes to it. The first two drop a row and set it again; the next ones drop what
/// is not there, add a row before all others and change one.
fn some_changes(random: &mut Random, ops: [&str; 2], size: usize, count: usize) -> Changes {
    let [set, drop] = ops;
    let ids: Vec<usize> = (0..size).map(|at| 5 + 4 * at + at % 3).collect();
    let fields = |random: &mut Random| {
        let (person, city) = (*random.pick(&PEOPLE), *random.pick(&CITIES));
        format!("{person},{city},{} {}", random.pick(&COLORS), random.pick(&GOODS))
    };
    let mut rows: BTreeMap<usize, String> = ids.iter().map(|id| (*id, fields(random))).collect();
    let header = "id,name,city,thing";
    let line = |(id, rest): (&usize, &String)| format!("{id},{rest}");
    let mut base: Vec<String> = rows.iter().map(line).collect();
    base = random.shuffled(&base);
    base.insert(0, header.to_owned());
    let mut changes = vec![format!("op,{header}")];
    let first = *random.pick(&ids);
    for at in 0..count {
        let (op, id) = match at {
            0 => (drop, first),
            1 => (set, first),
            2 => (drop, 3),
            3 => (set, 2),
            4 => (set, ids[size - 1]),
            _ => (*random.pick(&ops), random.within(6..=8 + 4 * size)),
        };
        // The row that comes back stays.
        if at > 1 && id == first {
            continue;
        }
        if op == set {
            let rest = fields(random);
            changes.push(format!("{set},{id},{rest}"));
            rows.insert(id, rest);
        } else {
            changes.push(format!("{drop},{id},,,"));
            rows.remove(&id);
        }
    }
    let wanted = std::iter::once(header.to_owned()).chain(rows.iter().map(line));
    Changes { base: lines(base), changes: lines(changes), wanted: lines(wanted) }
}
