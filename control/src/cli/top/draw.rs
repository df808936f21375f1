//! Model and view on the screen.

use std::collections::VecDeque;

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Paragraph, Row, Sparkline, Table};

use super::grid::{Cell, Grid, short};
use super::looking::{Looking, View};
use super::model::{Model, Presence};

/// Below this height sparklines would leave no room for rows.
const FOR_SPARKLINES: u16 = 14;

const HELP: &str = "\
 1 to 6, Tab, left, right   another view
 up, down, k, j             a row
 PgUp, PgDn, Home, End      a page, first, last
 s, S                       sort by the next, previous column
 r                          turn the order round
 /                          filter; Enter ends, Esc clears
 p, space                   pause
 q, Ctrl-C                  quit

 Rates of services and servers are IPVS's, of the last
 seconds; all others are of the last interval. Latency
 is of all packets since the director started.";

/// Draws all of it; notes in `looking` how much there was room for.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, looking: &mut Looking) {
    let area = frame.area();
    let sparklines = if area.height >= FOR_SPARKLINES { 4 } else { 0 };
    let [head, tabs, graphs, body, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(sparklines),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(headline(model), head);
    frame.render_widget(views(looking), tabs);
    if sparklines > 0 {
        let [left, right] =
            Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).spacing(2).areas(graphs);
        sparkline(frame, left, "packets/s", model.packets(), Color::Cyan);
        sparkline(frame, right, "connections/s", model.connections(), Color::Green);
    }
    table(frame, body, model.grid(looking.view()), looking);
    frame.render_widget(footer(looking), foot);
    if looking.shows_help() {
        help(frame, area);
    }
}

fn headline(model: &Model) -> Line<'_> {
    let here = Style::new().add_modifier(Modifier::BOLD);
    match &model.presence {
        Presence::Unknown => Line::from("asking the director ..."),
        Presence::Here => Line::from(vec![Span::styled("director ", here), Span::raw(model.headline())]),
        Presence::Away(why) => {
            Line::from(vec![" AWAY ".bold().white().on_red(), Span::raw(" "), Span::raw(why.as_str())])
        }
    }
}

fn views(looking: &Looking) -> Line<'_> {
    let mut spans = Vec::new();
    for (view, number) in View::ALL.into_iter().zip(1..) {
        let text = format!(" {number} {} ", view.title());
        spans.push(if view == looking.view() { text.reversed() } else { text.into() });
    }
    if looking.is_paused() {
        spans.push(" PAUSED ".bold().black().on_yellow());
    }
    Line::from(spans)
}

fn sparkline(frame: &mut Frame<'_>, area: Rect, name: &str, values: &VecDeque<u64>, colour: Color) {
    let [title, graph] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    let shown: Vec<u64> =
        values.iter().skip(values.len().saturating_sub(usize::from(graph.width))).copied().collect();
    let (now, most) =
        (shown.last().copied().unwrap_or_default(), shown.iter().max().copied().unwrap_or_default());
    let text = format!("{name} {}  (at most {})", short(now as f64), short(most as f64));
    frame.render_widget(Line::from(text).style(colour), title);
    frame.render_widget(Sparkline::default().data(&shown).max(most.max(1)).style(colour), graph);
}

fn table(frame: &mut Frame<'_>, area: Rect, mut grid: Grid, looking: &mut Looking) {
    let all = grid.rows.len();
    grid.filter(looking.filter());
    let order = looking.order();
    if let Some(column) = order.column {
        grid.sort(column, order.turned);
    } else if order.turned {
        grid.rows.reverse();
    }
    // The head, and a line that says how many there are.
    let page = usize::from(area.height.saturating_sub(2));
    looking.page = page;
    looking.columns = grid.titles.len();
    looking.first = looking.first.min(grid.rows.len().saturating_sub(page));
    let widths = grid.widths(area.width);
    // Numbers stand on the right, and so do their titles.
    let is_number = |column: usize| {
        grid.rows.first().and_then(|row| row.get(column)).is_some_and(|cell| matches!(cell, Cell::Number(..)))
    };
    let aligned = |column: usize, text: String| {
        let side = if is_number(column) { Alignment::Right } else { Alignment::Left };
        Line::from(text).alignment(side)
    };
    let titles = grid.titles.iter().enumerate().map(|(column, title)| {
        let sorted = order.column == Some(column);
        let arrow = match (sorted, order.turned) {
            (false, _) => "",
            (true, false) => "v",
            (true, true) => "^",
        };
        aligned(column, format!("{title}{arrow}"))
    });
    let head = Row::new(titles).style(Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED));
    let rows = grid.rows.iter().skip(looking.first).take(page).map(|row| {
        let cells = row.iter().enumerate().map(|(column, cell)| aligned(column, cell.shown().to_owned()));
        Row::new(cells)
    });
    let [above, below] = Layout::vertical([Constraint::Fill(1), Constraint::Length(1)]).areas(area);
    let widths = widths.into_iter().map(Constraint::Length);
    frame.render_widget(Table::new(rows, widths).header(head).column_spacing(1), above);
    let last = (looking.first + page).min(grid.rows.len());
    let mut count = match grid.rows.len() {
        0 => "none".to_owned(),
        shown => format!("{} to {last} of {shown}", looking.first + 1),
    };
    if grid.rows.len() != all {
        count += &format!(" ({all} without the filter)");
    }
    frame.render_widget(Line::from(count).dim(), below);
}

fn footer(looking: &Looking) -> Line<'_> {
    match (looking.is_typing(), looking.filter()) {
        (true, filter) => Line::from(vec!["filter: ".bold(), filter.into(), "_".into()]),
        (false, "") => Line::from("? help  s sort  r reverse  / filter  p pause  q quit").dim(),
        (false, filter) => Line::from(vec!["filter: ".bold(), filter.into(), "  (Esc clears)".dim()]),
    }
}

fn help(frame: &mut Frame<'_>, area: Rect) {
    let (lines, columns) = (HELP.lines().count(), HELP.lines().map(str::len).max().unwrap_or_default());
    let (width, height) = ((columns as u16 + 2).min(area.width), (lines as u16).min(area.height));
    let middle =
        Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    frame.render_widget(Clear, middle);
    frame.render_widget(Paragraph::new(HELP).style(Style::new().reversed()), middle);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

    use super::super::ask::News;
    use super::super::model::tests::known;
    use super::*;

    fn screen(size: (u16, u16), model: &Model, looking: &mut Looking) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).expect("a backend in memory");
        terminal.draw(|frame| draw(frame, model, looking)).expect("a backend in memory");
        let buffer = terminal.backend().buffer();
        let line = |y| (0..size.0).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..size.1).map(line).collect()
    }

    fn press(looking: &mut Looking, keys: &str) {
        for key in keys.chars() {
            looking.press(KeyEvent::new(KeyCode::Char(key), KeyModifiers::NONE));
        }
    }

    #[test]
    fn a_usual_terminal_shows_all_of_it() {
        let (model, mut looking) = (known(&[100, 101, 103]), Looking::default());
        let lines = screen((100, 24), &model, &mut looking);
        assert_eq!(
            lines[0],
            "director up 01:43, 250 connections, 7 packets/s dropped, every packet accounted for"
        );
        assert!(lines[1].starts_with(" 1 Services  2 Servers  3 Lcores"), "{lines:#?}");
        assert!(lines[2].starts_with("packets/s 1900  (at most 1900)"), "{lines:#?}");
        assert!(lines[2].contains("connections/s 50  (at most 50)"), "{lines:#?}");
        assert!(lines[5].contains('█'), "{lines:#?}");
        assert!(lines[6].starts_with("Service          Scheduler"), "{lines:#?}");
        assert_eq!(
            lines[7].split_whitespace().collect::<Vec<_>>(),
            ["TCP", "10.99.0.1:80", "wlc", "1/2", "15", "4", "40", "1.23M", "0", "0"]
        );
        assert_eq!(lines[22], "1 to 2 of 2");
        assert!(lines[23].starts_with("? help"), "{lines:#?}");
    }

    #[test]
    fn rows_are_sorted_and_filtered() {
        let (model, mut looking) = (known(&[100]), Looking::default());
        screen((100, 24), &model, &mut looking);
        press(&mut looking, "ssssss");
        let lines = screen((100, 24), &model, &mut looking);
        assert!(lines[6].contains("Conns/sv"), "{lines:#?}");
        assert!(lines[7].starts_with("UDP 10.99.0.2:53"), "the greatest first: {lines:#?}");
        press(&mut looking, "/tcp");
        let lines = screen((100, 24), &model, &mut looking);
        assert!(lines[7].starts_with("TCP 10.99.0.1:80") && lines[8].is_empty(), "{lines:#?}");
        assert_eq!(lines[22], "1 to 1 of 1 (2 without the filter)");
        assert_eq!(lines[23], "filter: tcp_");
    }

    #[test]
    fn a_small_terminal_shows_what_fits() {
        let (model, mut looking) = (known(&[100, 101]), Looking::default());
        let lines = screen((44, 8), &model, &mut looking);
        assert!(lines[2].starts_with("Service          Scheduler"), "no sparklines: {lines:#?}");
        assert!(lines[3].ends_with("15"), "columns that do not fit are left out: {lines:#?}");
        press(&mut looking, "G");
        let lines = screen((44, 6), &model, &mut looking);
        assert!(lines[3].starts_with("UDP 10.99.0.2:53"), "the last row: {lines:#?}");
        for size in [(1, 1), (3, 2), (200, 3), (10, 30), (0, 0)] {
            for keys in ["1", "2", "3", "4", "5", "6", "?"] {
                press(&mut looking, keys);
                screen(size, &model, &mut looking);
            }
            press(&mut looking, "x");
        }
    }

    #[test]
    fn who_is_away_is_said_to_be_and_what_was_last_known_stays() {
        let (mut model, mut looking) = (known(&[100, 101]), Looking::default());
        model.take(News::Away("no director listens on /run/x".to_owned()));
        press(&mut looking, "p");
        let lines = screen((100, 24), &model, &mut looking);
        assert_eq!(lines[0], " AWAY  no director listens on /run/x");
        assert!(lines[1].contains("PAUSED"), "{lines:#?}");
        assert!(lines[7].starts_with("TCP 10.99.0.1:80"), "{lines:#?}");
        let lines = screen((100, 24), &Model::default(), &mut Looking::default());
        assert_eq!((lines[0].as_str(), lines[22].as_str()), ("asking the director ...", "none"));
    }

    #[test]
    fn the_help_stands_over_the_rest_and_is_whole() {
        let (model, mut looking) = (known(&[100]), Looking::default());
        press(&mut looking, "?");
        let lines = screen((80, 24), &model, &mut looking).join("\n");
        for words in ["turn the order round", "q, Ctrl-C", "since the director started."] {
            assert!(lines.contains(words), "{words}\n{lines}");
        }
    }
}
