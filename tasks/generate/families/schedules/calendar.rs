//! Days of the year, and the fields of a crontab's entry.

use crate::generate::random::Random;

/// A day; no leap years are needed here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Day {
    pub(super) year: usize,
    pub(super) month: usize,
    pub(super) day: usize,
    /// 0 is Sunday.
    pub(super) weekday: usize,
}

const MONTHS: [usize; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

impl Day {
    /// `YYYY-MM-DD`, of 2027: its first day is a Friday.
    pub(super) fn of_2027(date: &str) -> Self {
        let mut parts = date.split('-').filter_map(|part| part.parse::<usize>().ok());
        let mut next = || parts.next().unwrap_or(1);
        let (year, month, day) = (next(), next(), next());
        let before: usize = MONTHS[..month - 1].iter().sum();
        Self { year, month, day, weekday: (5 + before + day - 1) % 7 }
    }

    pub(super) fn next(self) -> Self {
        let Self { year, month, day, weekday } = self;
        let weekday = (weekday + 1) % 7;
        if day < MONTHS[month - 1] {
            Self { year, month, day: day + 1, weekday }
        } else {
            Self { year: year + month / 12, month: month % 12 + 1, day: 1, weekday }
        }
    }

    pub(super) fn shown(self) -> String {
        format!("{}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

/// What an entry's field may be: `*`, numbers, ranges and lists of these, `*/STEP`.
pub(super) fn has(field: &str, value: usize, low: usize) -> bool {
    field.split(',').any(|part| {
        let (range, step) = part.split_once('/').unwrap_or((part, "1"));
        let number = |text: &str| text.parse::<usize>().unwrap_or(0);
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (low, 99),
            Some((first, last)) => (number(first), number(last)),
            None => (number(range), number(range)),
        };
        (first..=last).contains(&value) && (value - first).is_multiple_of(number(step).max(1))
    })
}

/// One that has the value, or has not.
pub(super) fn field(
    random: &mut Random,
    (low, high): (usize, usize),
    value: usize,
    hit: bool,
) -> String {
    loop {
        let near = if hit { value } else { random.within(low..=high) };
        let text = match random.below(4) {
            0 => near.to_string(),
            1 => {
                let mut list = [near, random.within(low..=high), random.within(low..=high)];
                list.sort_unstable();
                let [a, b, c] = list;
                if a == b || b == c { continue } else { format!("{a},{b},{c}") }
            }
            2 => {
                let first = near.saturating_sub(random.within(0..=3)).max(low);
                let last = (near + random.within(1..=3)).min(high);
                if first >= last { continue } else { format!("{first}-{last}") }
            }
            // Only of what begins with 0, where it is not open what steps are counted from.
            _ if low == 0 && high > 7 => format!("*/{}", random.pick(&[2, 3, 5, 10, 15])),
            _ => continue,
        };
        if has(&text, value, low) == hit {
            return text;
        }
    }
}

/// An entry's five fields.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) minute: String,
    pub(super) hour: String,
    pub(super) day: String,
    pub(super) month: String,
    pub(super) weekday: String,
}

impl Entry {
    pub(super) fn shown(&self) -> String {
        let Self { minute, hour, day, month, weekday } = self;
        format!("{minute} {hour} {day} {month} {weekday}")
    }

    /// Either of the two fields for days is enough where neither is `*`.
    pub(super) fn on(&self, on: Day) -> bool {
        let by_day = has(&self.day, on.day, 1);
        let by_weekday =
            has(&self.weekday, on.weekday, 0) || (on.weekday == 0 && has(&self.weekday, 7, 0));
        let either = self.day != "*" && self.weekday != "*";
        has(&self.month, on.month, 1)
            && if either { by_day || by_weekday } else { by_day && by_weekday }
    }

    pub(super) fn at(&self, hour: usize, minute: usize) -> bool {
        has(&self.hour, hour, 0) && has(&self.minute, minute, 0)
    }
}
