//! Standard output: results, as text or as one JSON document. Progress and messages go to standard
//! error.

use std::io::{self, Write as _};
use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::exit::Failure;

/// Prints `text` as it is. That its reader has gone away (`| head`) is no failure.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::bad_input(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints a value as indented JSON.
pub fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::internal(format!("a result is not JSON: {error}")))?;
    print(&format!("{text}\n"))
}

/// Prints a value as JSON on a line of its own.
pub fn print_json_line(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value)
        .map_err(|error| Failure::internal(format!("a result is not JSON: {error}")))?;
    print(&format!("{text}\n"))
}

/// `--dry-run`: a configuration file, with what it comes to in comments.
pub fn print_plan(config: &str, about: &str) -> Result<(), Failure> {
    let about = about.lines().map(|line| format!("# {line}").trim_end().to_owned() + "\n");
    print(&format!("{config}\n{}", about.collect::<String>()))
}

/// Rows under a header, columns apart by two spaces, lines without trailing blanks. Cells are
/// broken into lines where the table would be wider than `width`.
pub fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
    width: Option<u16>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header).add_rows(rows);
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt() + "\n"
}

/// Of the terminal that standard output is; `None` where it is none.
pub fn terminal_width() -> Option<u16> {
    terminal_size::terminal_size_of(io::stdout()).map(|(terminal_size::Width(width), _)| width)
}

/// `1 task`, `2 tasks`.
pub fn plural(count: usize, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {what}{s}")
}

/// `7 s`, `4 min 05 s`, `3 h 20 min`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_text_that_other_tools_can_cut() {
        let rows = [["a", "1"], ["longer", "22"]].map(|row| row.map(str::to_owned));
        let text = table(["name", "n"], rows.clone(), None);
        assert_eq!(text, "name    n\na       1\nlonger  22\n");
        assert_eq!(table(["name", "n"], rows, Some(80)), text);
    }

    #[test]
    fn a_cell_is_broken_where_a_terminal_is_too_narrow() {
        let rows = [["check".to_owned(), "a long explanation of something".to_owned()]];
        let text = table(["name", "what"], rows, Some(30));
        assert!(text.lines().count() == 3, "{text}");
        assert!(text.lines().all(|line| line.len() <= 30), "{text}");
    }

    #[test]
    fn durations_are_told_in_two_units_at_most() {
        let text = |sec| duration(Duration::from_secs(sec));
        assert_eq!([text(59), text(60), text(3_599)], ["59 s", "1 min 00 s", "59 min 59 s"]);
        assert_eq!(text(3 * 3600 + 20 * 60 + 5), "3 h 20 min");
    }
}
