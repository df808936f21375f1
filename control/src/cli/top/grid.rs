//! Rows under a head, sorted and filtered.

use std::cmp::Ordering;

/// What stands in one place of a grid.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    /// On the left, and found by a filter.
    Text(String),
    /// On the right, and sorted by its value; as it is shown.
    Number(f64, String),
}

impl Cell {
    pub(super) fn text(text: impl Into<String>) -> Cell {
        Cell::Text(text.into())
    }

    /// A count or a rate, in few digits.
    pub(super) fn number(number: f64) -> Cell {
        Cell::Number(number, short(number))
    }

    pub(super) fn shown(&self) -> &str {
        match self {
            Cell::Text(text) | Cell::Number(_, text) => text,
        }
    }

    fn compare(&self, other: &Cell) -> Ordering {
        match (self, other) {
            (Cell::Number(a, _), Cell::Number(b, _)) => a.total_cmp(b),
            _ => self.shown().cmp(other.shown()),
        }
    }
}

/// Rows of as many cells as there are titles.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Grid {
    pub(super) titles: Vec<&'static str>,
    pub(super) rows: Vec<Vec<Cell>>,
}

impl Grid {
    pub(super) fn new(titles: &[&'static str]) -> Grid {
        Grid { titles: titles.to_vec(), rows: Vec::new() }
    }

    /// Keeps rows of which a text has this in it, in any case of letters.
    pub(super) fn filter(&mut self, wanted: &str) {
        let wanted = wanted.to_lowercase();
        if !wanted.is_empty() {
            let fits =
                |cell: &Cell| matches!(cell, Cell::Text(text) if text.to_lowercase().contains(&wanted));
            self.rows.retain(|row| row.iter().any(fits));
        }
    }

    /// Sorts by a column: texts from the first on, numbers from the greatest on, unless `turned` round. Equal ones stay
    /// as they came.
    pub(super) fn sort(&mut self, column: usize, turned: bool) {
        self.rows.sort_by(|a, b| {
            let (Some(a), Some(b)) = (a.get(column), b.get(column)) else { return Ordering::Equal };
            let order = match a {
                Cell::Number(..) => b.compare(a),
                Cell::Text(_) => a.compare(b),
            };
            if turned { order.reverse() } else { order }
        });
    }

    /// The widths of the columns from the left on that fit into so many places, with one between two. The first one is
    /// cut, if need be, rather than left out.
    pub(super) fn widths(&self, places: u16) -> Vec<u16> {
        let mut widths = Vec::new();
        let mut left = usize::from(places);
        for (column, title) in self.titles.iter().enumerate() {
            let cells =
                self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.shown().chars().count());
            // One more, for the arrow of the column that is sorted by.
            let width = cells.chain([title.chars().count() + 1]).max().unwrap_or_default();
            let gap = usize::from(column > 0);
            if column > 0 && width + gap > left {
                break;
            }
            let width = width.min(left);
            left -= width + gap.min(left - width);
            widths.push(u16::try_from(width).unwrap_or(u16::MAX));
        }
        widths
    }
}

/// A number in at most five digits and a unit: 12345, 1.23M.
pub(super) fn short(number: f64) -> String {
    if number < 99_999.5 {
        return format!("{number:.0}");
    }
    let mut value = number;
    for unit in ["k", "M", "G", "T", "P"] {
        value /= 1000.0;
        if value < 999.5 {
            let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
            return format!("{value:.digits$}{unit}");
        }
    }
    format!("{number:.1e}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Grid {
        let mut grid = Grid::new(&["Name", "Rate"]);
        for (name, rate) in [("beta", 5.0), ("alpha", 70.0), ("Gamma", 5.0)] {
            grid.rows.push(vec![Cell::text(name), Cell::number(rate)]);
        }
        grid
    }

    fn names(grid: &Grid) -> Vec<&str> {
        grid.rows.iter().map(|row| row[0].shown()).collect()
    }

    #[test]
    fn numbers_go_down_and_texts_up_unless_turned_round() {
        let mut grid = grid();
        grid.sort(1, false);
        assert_eq!(names(&grid), ["alpha", "beta", "Gamma"], "equal ones stay as they came");
        grid.sort(1, true);
        assert_eq!(names(&grid), ["beta", "Gamma", "alpha"]);
        grid.sort(0, false);
        assert_eq!(names(&grid), ["Gamma", "alpha", "beta"]);
        grid.sort(7, false);
        assert_eq!(names(&grid), ["Gamma", "alpha", "beta"], "no such column, no other order");
    }

    #[test]
    fn a_filter_finds_texts_in_any_case() {
        let mut grid = grid();
        grid.filter("MM");
        assert_eq!(names(&grid), ["Gamma"]);
        grid.filter("");
        assert_eq!(names(&grid), ["Gamma"]);
        grid.filter("5");
        assert!(grid.rows.is_empty(), "numbers are not looked at");
    }

    #[test]
    fn what_does_not_fit_is_left_out_from_the_right() {
        assert_eq!(grid().widths(80), [5, 5]);
        assert_eq!(grid().widths(11), [5, 5]);
        assert_eq!(grid().widths(10), [5]);
        assert_eq!(grid().widths(3), [3]);
        assert_eq!(grid().widths(0), [0]);
    }

    #[test]
    fn numbers_are_short() {
        for (number, text) in [
            (0.0, "0"),
            (99_999.0, "99999"),
            (100_000.0, "100k"),
            (1_234_567.0, "1.23M"),
            (45_678_901.0, "45.7M"),
            (999_600_000.0, "1.00G"),
            (u64::MAX as f64, "1.8e19"),
        ] {
            assert_eq!(short(number), text);
        }
    }
}
