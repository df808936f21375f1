//! Tables and numbers for people.

use std::io::Write;

use super::session::Failure;

/// Writes to standard output at once.
pub(super) fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()?;
    Ok(())
}

/// On which side the cells of a column stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// Rows whose columns stand one under the other, two spaces apart.
#[derive(Debug)]
pub(super) struct Table {
    sides: Vec<Side>,
    widths: Vec<usize>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with this head: the titles with the side on which their column stands.
    pub(super) fn new(head: &[(&str, Side)]) -> Table {
        let mut table = Table {
            sides: head.iter().map(|(_, side)| *side).collect(),
            widths: vec![0; head.len()],
            rows: Vec::new(),
        };
        table.row(head.iter().map(|(title, _)| (*title).to_owned()));
        table
    }

    /// Adds a row. Cells beyond the head's columns are left out, missing ones are empty.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut row: Vec<String> = cells.into_iter().take(self.widths.len()).collect();
        row.resize(self.widths.len(), String::new());
        for (width, cell) in self.widths.iter_mut().zip(&row) {
            *width = (*width).max(cell.chars().count());
        }
        self.rows.push(row);
    }

    /// The rows added since the last call, as text. Widths only grow, so that the pages of a long list stand one under
    /// the other as well as can be known.
    pub(super) fn take(&mut self) -> String {
        let mut text = String::new();
        for row in self.rows.drain(..) {
            let mut line = String::new();
            for ((cell, width), side) in row.iter().zip(&self.widths).zip(&self.sides) {
                let gap = " ".repeat(width - cell.chars().count());
                match side {
                    Side::Left => line.extend([cell.as_str(), &gap, "  "]),
                    Side::Right => line.extend([gap.as_str(), cell, "  "]),
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Milliseconds as `MM:SS`, or `HH:MM:SS` from an hour on, as ipvsadm shows expiry.
pub(super) fn clock(milliseconds: u64) -> String {
    let seconds = milliseconds.div_ceil(1000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours:02}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes:02}:{seconds:02}")
    }
}

/// Milliseconds since 1970 as a date and a time of day, UTC: `2026-03-01 12:00:00Z`.
pub(super) fn date(milliseconds: u64) -> String {
    let time = i64::try_from(milliseconds).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| "-".to_owned(), |time| time.strftime("%F %TZ").to_string())
}

/// Nanoseconds with the unit in which three digits say enough.
pub(super) fn duration(nanoseconds: u64) -> String {
    let value = nanoseconds as f64;
    match nanoseconds {
        0..1_000 => format!("{nanoseconds} ns"),
        1_000..1_000_000 => format!("{:.1} us", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", value / 1e6),
        _ => format!("{:.1} s", value / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_one_under_the_other() {
        let mut table = Table::new(&[("Name", Side::Left), ("Count", Side::Right), ("Note", Side::Left)]);
        table.row(["a".to_owned(), "7".to_owned(), "x".to_owned()]);
        table.row(["longer".to_owned(), "1234567".to_owned()]);
        assert_eq!(table.take(), "Name      Count  Note\na             7  x\nlonger  1234567\n");
        table.row(["b".to_owned(), "1".to_owned(), "y".to_owned()]);
        assert_eq!(
            table.take(),
            "b             1  y\n",
            "later pages keep the widths and have no second head"
        );
    }

    #[test]
    fn expiry_reads_as_ipvsadm_shows_it() {
        assert_eq!(clock(0), "00:00");
        assert_eq!(clock(899_001), "15:00", "a started second counts");
        assert_eq!(clock(59_000), "00:59");
        assert_eq!(clock(2_678_400_000), "744:00:00");
    }

    #[test]
    fn dates_are_of_utc_or_a_dash() {
        assert_eq!(date(951_782_400_999), "2000-02-29 00:00:00Z");
        assert_eq!(date(u64::MAX), "-");
    }

    #[test]
    fn durations_have_a_fitting_unit() {
        assert_eq!(duration(999), "999 ns");
        assert_eq!(duration(1_500), "1.5 us");
        assert_eq!(duration(2_340_000), "2.3 ms");
        assert_eq!(duration(3_000_000_000), "3.0 s");
    }
}
