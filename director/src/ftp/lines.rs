//! Lines that come in more than one segment.

use std::net::SocketAddr;

use super::MAX_LINE;

/// How many unfinished lines are remembered on one lcore. Whoever writes a whole line at a time, as programs do, needs
/// none.
const CAPACITY: usize = 64;

/// Whose words they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whose {
    /// Who speaks.
    pub from: SocketAddr,
    /// To whom.
    pub to: SocketAddr,
}

#[derive(Clone, Copy, Debug)]
struct Unfinished {
    whose: Whose,
    /// Sequence number of what comes next.
    next: u32,
    text: [u8; MAX_LINE],
    len: usize,
}

/// The unfinished lines of an lcore's control connections.
#[derive(Debug)]
pub struct Lines {
    unfinished: Vec<Unfinished>,
    /// Whose place is taken next when there is none left.
    oldest: usize,
}

impl Default for Lines {
    fn default() -> Self {
        Lines { unfinished: Vec::with_capacity(CAPACITY), oldest: 0 }
    }
}

impl Lines {
    /// A segment's text, with the sequence number of its first byte: `each` gets every line that it ends, without the
    /// end. What is left over waits for the next segment; of one that does not follow it nothing is known.
    pub fn read(&mut self, whose: Whose, sequence: u32, text: &[u8], mut each: impl FnMut(&[u8])) {
        let known = self.unfinished.iter().position(|line| line.whose == whose);
        let mut begun = match known {
            Some(at) if self.unfinished[at].next == sequence => Some(self.unfinished.swap_remove(at)),
            // Sent again, in part or in whole; what is remembered may still be continued.
            Some(at) if (sequence.wrapping_sub(self.unfinished[at].next) as i32) < 0 => {
                let again = self.unfinished[at].next.wrapping_sub(sequence) as usize;
                if again >= text.len() {
                    return;
                }
                let whole = self.unfinished.swap_remove(at);
                return self.go_on(
                    whose,
                    sequence.wrapping_add(again as u32),
                    &text[again..],
                    Some(whole),
                    each,
                );
            }
            Some(at) => {
                self.unfinished.swap_remove(at);
                None
            }
            None => None,
        };
        self.go_on(whose, sequence, text, begun.take(), &mut each);
    }

    fn go_on(
        &mut self,
        whose: Whose,
        sequence: u32,
        text: &[u8],
        begun: Option<Unfinished>,
        mut each: impl FnMut(&[u8]),
    ) {
        let mut line = begun.unwrap_or(Unfinished { whose, next: 0, text: [0; MAX_LINE], len: 0 });
        let mut rest = text;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (this, behind) = rest.split_at(end);
            rest = &behind[1..];
            if line.len == 0 {
                each(this.strip_suffix(b"\r").unwrap_or(this));
            } else if line.push(this) {
                let whole = &line.text[..line.len];
                each(whole.strip_suffix(b"\r").unwrap_or(whole));
            }
            line.len = 0;
        }
        // A line that is too long is none that matters, and its rest will not be taken for the beginning of one: it
        // is not followed by it.
        if !rest.is_empty() && line.push(rest) {
            line.next = sequence.wrapping_add(text.len() as u32);
            self.remember(line);
        }
    }

    fn remember(&mut self, line: Unfinished) {
        if self.unfinished.len() < CAPACITY {
            self.unfinished.push(line);
        } else {
            self.unfinished[self.oldest % CAPACITY] = line;
            self.oldest += 1;
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.unfinished.len()
    }
}

impl Unfinished {
    /// False where the line gets too long.
    fn push(&mut self, more: &[u8]) -> bool {
        let end = self.len + more.len();
        if end > MAX_LINE {
            return false;
        }
        self.text[self.len..end].copy_from_slice(more);
        self.len = end;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whose(port: u16) -> Whose {
        Whose { from: ([10, 0, 1, 1], port).into(), to: ([10, 99, 0, 1], 21).into() }
    }

    fn lines(lines: &mut Lines, sequence: u32, text: &str) -> Vec<String> {
        let mut all = Vec::new();
        lines.read(whose(1), sequence, text.as_bytes(), |line| {
            all.push(String::from_utf8_lossy(line).into_owned());
        });
        all
    }

    #[test]
    fn whole_lines_need_no_memory_and_parts_are_put_together() {
        let mut memory = Lines::default();
        assert_eq!(lines(&mut memory, 1000, "USER a\r\nPASS b\r\n"), ["USER a", "PASS b"]);
        assert_eq!(memory.len(), 0);
        assert_eq!(lines(&mut memory, u32::MAX, "PORT 10,0,1"), [""; 0]);
        assert_eq!(lines(&mut memory, 10, ",1,1"), [""; 0]);
        assert_eq!(lines(&mut memory, 10, ",1,1"), [""; 0], "sent again");
        assert_eq!(lines(&mut memory, u32::MAX, "PORT 10,0,1,1,1,1\r\nPW"), ["PORT 10,0,1,1,1,1"]);
        assert_eq!(lines(&mut memory, 20, "D\n"), ["PWD"]);
        assert_eq!(memory.len(), 0);
    }

    #[test]
    fn what_does_not_follow_is_not_joined_and_long_lines_are_let_go() {
        let mut memory = Lines::default();
        assert_eq!(lines(&mut memory, 1000, "PORT 1"), [""; 0]);
        assert_eq!(lines(&mut memory, 1010, "0,0,1,1,1,1\r\n"), ["0,0,1,1,1,1"]);
        assert_eq!(lines(&mut memory, 0, &"x".repeat(MAX_LINE)), [""; 0]);
        assert_eq!(lines(&mut memory, MAX_LINE as u32, "y\r\nNOOP\r\n"), ["NOOP"]);
    }

    #[test]
    fn memory_is_bounded() {
        let mut memory = Lines::default();
        for port in 0..10_000 {
            memory.read(whose(port), 0, b"PORT", |_| panic!("no line has ended"));
        }
        assert_eq!(memory.len(), CAPACITY);
    }

    proptest! {
        /// However the text is cut, each line comes once.
        #[test]
        fn lines_come_however_they_are_cut(
            text in proptest::collection::vec("[A-Z ,0-9]{0,20}", 1..10),
            cuts in proptest::collection::vec(1usize..15, 1..60),
            first: u32,
        ) {
            let whole: String = text.iter().map(|line| format!("{line}\r\n")).collect();
            let (mut memory, mut got, mut at) = (Lines::default(), Vec::new(), 0);
            for cut in cuts.iter().cycle() {
                let end = whole.len().min(at + cut);
                got.extend(lines(&mut memory, first.wrapping_add(at as u32), &whole[at..end]));
                at = end;
                if at == whole.len() {
                    break;
                }
            }
            prop_assert_eq!(got, text);
        }
    }
}
