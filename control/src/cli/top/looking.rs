//! What somebody looks at, and how keys change that.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What can be looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum View {
    #[default]
    Services,
    Servers,
    Lcores,
    Ports,
    Drops,
    Latency,
}

impl View {
    pub(super) const ALL: [View; 6] =
        [View::Services, View::Servers, View::Lcores, View::Ports, View::Drops, View::Latency];

    pub(super) fn title(self) -> &'static str {
        match self {
            View::Services => "Services",
            View::Servers => "Servers",
            View::Lcores => "Lcores",
            View::Ports => "Ports",
            View::Drops => "Drops",
            View::Latency => "Latency",
        }
    }

    /// Whether services are shown, which may be many.
    pub(super) fn needs_services(self) -> bool {
        matches!(self, View::Services | View::Servers)
    }

    fn step(self, by: usize) -> View {
        let at = View::ALL.iter().position(|view| *view == self).unwrap_or_default();
        View::ALL[(at + by) % View::ALL.len()]
    }
}

/// What a key leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    GoOn,
    Quit,
}

/// How one view is sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Order {
    /// By which column; none: as the director says it.
    pub(super) column: Option<usize>,
    pub(super) turned: bool,
}

/// What somebody looks at.
#[derive(Clone, Debug, Default)]
pub(super) struct Looking {
    view: View,
    orders: [Order; View::ALL.len()],
    filter: String,
    /// The filter is being typed.
    typing: bool,
    paused: bool,
    help: bool,
    /// The first row that is shown. Drawing keeps it within what there is.
    pub(super) first: usize,
    /// How many rows and columns the last drawing had room for and had.
    pub(super) page: usize,
    pub(super) columns: usize,
}

impl Looking {
    pub(super) fn view(&self) -> View {
        self.view
    }

    pub(super) fn order(&self) -> Order {
        self.orders[self.view as usize]
    }

    pub(super) fn filter(&self) -> &str {
        &self.filter
    }

    pub(super) fn is_typing(&self) -> bool {
        self.typing
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    pub(super) fn shows_help(&self) -> bool {
        self.help
    }

    /// A key was pressed.
    pub(super) fn press(&mut self, key: KeyEvent) -> Then {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if key.code == KeyCode::Char('c') { Then::Quit } else { Then::GoOn };
        }
        if self.typing {
            self.type_filter(key.code);
            return Then::GoOn;
        }
        if std::mem::take(&mut self.help) {
            return Then::GoOn;
        }
        match key.code {
            KeyCode::Char('q') => return Then::Quit,
            KeyCode::Char('?' | 'h') => self.help = true,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Esc => self.set_filter(String::new()),
            KeyCode::Char(digit @ '1'..='6') => self.look_at(View::ALL[digit as usize - '1' as usize]),
            KeyCode::Tab | KeyCode::Right => self.look_at(self.view.step(1)),
            KeyCode::BackTab | KeyCode::Left => self.look_at(self.view.step(View::ALL.len() - 1)),
            KeyCode::Char('s') => self.sort_by(1),
            KeyCode::Char('S') => self.sort_by(self.columns),
            KeyCode::Char('r') => self.orders[self.view as usize].turned ^= true,
            KeyCode::Down | KeyCode::Char('j') => self.first = self.first.saturating_add(1),
            KeyCode::Up | KeyCode::Char('k') => self.first = self.first.saturating_sub(1),
            KeyCode::PageDown => self.first = self.first.saturating_add(self.page.max(1)),
            KeyCode::PageUp => self.first = self.first.saturating_sub(self.page.max(1)),
            KeyCode::Home | KeyCode::Char('g') => self.first = 0,
            KeyCode::End | KeyCode::Char('G') => self.first = usize::MAX,
            _ => {}
        }
        Then::GoOn
    }

    fn look_at(&mut self, view: View) {
        (self.view, self.first) = (view, 0);
    }

    fn set_filter(&mut self, filter: String) {
        (self.filter, self.first) = (filter, 0);
    }

    /// The next order: as the director says it, then by each column in turn, forward by 1 or backward by all columns.
    fn sort_by(&mut self, step: usize) {
        let order = &mut self.orders[self.view as usize];
        let at = order.column.map_or(0, |column| column + 1);
        let next = (at + step) % (self.columns + 1);
        order.column = next.checked_sub(1);
        self.first = 0;
    }

    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.set_filter(String::new());
            }
            KeyCode::Backspace => {
                let mut filter = std::mem::take(&mut self.filter);
                filter.pop();
                self.set_filter(filter);
            }
            KeyCode::Char(letter) => {
                let filter = std::mem::take(&mut self.filter) + letter.encode_utf8(&mut [0; 4]);
                self.set_filter(filter);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(looking: &mut Looking, keys: &str) -> Then {
        keys.chars().fold(Then::GoOn, |_, key| {
            let code = match key {
                '\n' => KeyCode::Enter,
                '\t' => KeyCode::Tab,
                '\u{8}' => KeyCode::Backspace,
                '\u{1b}' => KeyCode::Esc,
                key => KeyCode::Char(key),
            };
            looking.press(KeyEvent::new(code, KeyModifiers::NONE))
        })
    }

    #[test]
    fn keys_lead_from_view_to_view() {
        let mut looking = Looking::default();
        press(&mut looking, "3");
        assert_eq!(looking.view(), View::Lcores);
        press(&mut looking, "\t\t\t\t");
        assert_eq!(looking.view(), View::Services, "round and round");
        looking.press(KeyEvent::new(KeyCode::Left, KeyModifiers::NONE));
        assert_eq!(looking.view(), View::Latency);
        assert!(!looking.view().needs_services() && View::Servers.needs_services());
    }

    #[test]
    fn each_view_has_its_order() {
        let mut looking = Looking { columns: 3, ..Looking::default() };
        press(&mut looking, "ssr");
        assert_eq!(looking.order(), Order { column: Some(1), turned: true });
        press(&mut looking, "2");
        assert_eq!(looking.order(), Order::default());
        press(&mut looking, "S");
        assert_eq!(looking.order().column, Some(2));
        press(&mut looking, "s");
        assert_eq!(looking.order().column, None, "after the last column comes the director's order");
        press(&mut looking, "1");
        assert_eq!(looking.order().column, Some(1));
    }

    #[test]
    fn a_filter_is_typed_and_its_letters_are_no_keys() {
        let mut looking = Looking { first: 9, ..Looking::default() };
        assert_eq!(press(&mut looking, "/q1p"), Then::GoOn);
        assert!(looking.is_typing() && !looking.is_paused());
        press(&mut looking, "x\u{8}\n");
        assert_eq!((looking.filter(), looking.is_typing(), looking.first), ("q1p", false, 0));
        press(&mut looking, "\u{1b}");
        assert_eq!(looking.filter(), "");
    }

    #[test]
    fn q_and_ctrl_c_quit_and_any_key_ends_the_help() {
        let mut looking = Looking::default();
        press(&mut looking, "?");
        assert!(looking.shows_help());
        assert_eq!(press(&mut looking, "q"), Then::GoOn);
        assert!(!looking.shows_help());
        assert_eq!(press(&mut looking, "q"), Then::Quit);
        press(&mut looking, "/");
        assert_eq!(looking.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Then::Quit);
    }
}
