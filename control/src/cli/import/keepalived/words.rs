//! The text of a keepalived.conf as a tree: lines of words, of which some have a block of lines.

/// A line, and the block behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    /// Its number, from 1.
    pub(super) number: usize,
    /// Its words, quotes taken off; the first one says what it is about.
    pub(super) words: Vec<String>,
    /// What stands in braces behind it, if there are any.
    pub(super) block: Vec<Line>,
}

impl Line {
    /// What it is about.
    pub(super) fn keyword(&self) -> &str {
        self.word(0)
    }

    /// One of its words; empty where it has not so many.
    pub(super) fn word(&self, place: usize) -> &str {
        self.words.get(place).map_or("", String::as_str)
    }
}

/// Reads all of it. What is unbalanced is taken as if braces were missing at the end.
pub(super) fn read(text: &str) -> Vec<Line> {
    // The lines of each block that is open, the file's own first.
    let mut open: Vec<Vec<Line>> = vec![Vec::new()];
    for (number, line) in (1..).zip(text.lines()) {
        let mut words: Vec<String> = Vec::new();
        for word in split(line) {
            match word {
                Word::Text(text) => words.push(text),
                Word::Open => {
                    finish(&mut open, number, &mut words);
                    open.push(Vec::new());
                }
                Word::Close => {
                    finish(&mut open, number, &mut words);
                    close(&mut open);
                }
            }
        }
        finish(&mut open, number, &mut words);
    }
    while open.len() > 1 {
        close(&mut open);
    }
    open.pop().unwrap_or_default()
}

fn finish(open: &mut [Vec<Line>], number: usize, words: &mut Vec<String>) {
    if let (false, Some(lines)) = (words.is_empty(), open.last_mut()) {
        lines.push(Line { number, words: std::mem::take(words), block: Vec::new() });
    }
}

/// The innermost block belongs to the last line before it.
fn close(open: &mut Vec<Vec<Line>>) {
    if open.len() < 2 {
        return;
    }
    let block = open.pop().unwrap_or_default();
    if let Some(line) = open.last_mut().and_then(|lines| lines.last_mut()) {
        line.block = block;
    }
}

enum Word {
    Text(String),
    Open,
    Close,
}

fn split(line: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut text: Option<String> = None;
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                text.get_or_insert_default();
            }
            c if quoted => text.get_or_insert_default().push(c),
            // Comments.
            '#' | '!' => break,
            '{' | '}' => {
                words.extend(text.take().map(Word::Text));
                words.push(if c == '{' { Word::Open } else { Word::Close });
            }
            c if c.is_whitespace() => words.extend(text.take().map(Word::Text)),
            c => text.get_or_insert_default().push(c),
        }
    }
    words.extend(text.map(Word::Text));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_words_and_blocks() {
        let lines = read(
            "! a comment\nvirtual_server 10.0.0.1 80 {\n  lb_algo rr # why\n  real_server x 80\n  {\n    url { path \"/a b\" }\n  }\n}\nlast",
        );
        assert_eq!(lines.iter().map(|line| line.keyword()).collect::<Vec<_>>(), ["virtual_server", "last"]);
        let service = &lines[0];
        assert_eq!((service.number, service.word(1), service.word(2)), (2, "10.0.0.1", "80"));
        assert_eq!(service.block[0].words, ["lb_algo", "rr"]);
        assert_eq!(service.block[1].block[0].block[0].words, ["path", "/a b"]);
    }

    #[test]
    fn braces_that_do_not_match_lose_nothing() {
        assert_eq!(read("a {\nb {\nc")[0].block[0].block[0].words, ["c"]);
        assert_eq!(read("} a\n}").len(), 1);
    }
}
