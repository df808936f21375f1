//! `-R`: rules from standard input, one on a line.

use std::io::BufRead;

/// The longest word of a line; what is longer becomes several.
const WORD_LENGTH: usize = 4096;

/// The words of the next line; none at the end. The word `ipvsadm` may stand anywhere and says nothing. As with
/// ipvsadm, a last line without its newline counts only if not more than one blank ends it.
///
/// # Errors
/// When the input cannot be read.
pub(in crate::cli) fn next_line(input: &mut dyn BufRead) -> std::io::Result<Option<Vec<String>>> {
    let mut line = Vec::new();
    if input.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.last() != Some(&b'\n') {
        let text = line.trim_ascii_end();
        if line.len() - text.len() > 1 || text.is_empty() {
            return Ok(None);
        }
    }
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let words = line.split(is_blank).flat_map(|word| word.chunks(WORD_LENGTH));
    let words = words.map(|word| String::from_utf8_lossy(word).into_owned());
    Ok(Some(words.filter(|word| word != "ipvsadm").collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(mut input: &[u8]) -> Vec<Vec<String>> {
        std::iter::from_fn(|| next_line(&mut input).expect("memory can be read")).collect()
    }

    #[test]
    fn lines_are_words_without_the_programs_name() {
        assert_eq!(
            lines(b"-A -t 10.0.0.1:80\n\n  ipvsadm -a\t-r x \r\n# a word\n-C"),
            [
                vec!["-A", "-t", "10.0.0.1:80"],
                vec![],
                vec!["-a", "-r", "x"],
                vec!["#", "a", "word"],
                vec!["-C"]
            ]
        );
        assert_eq!(lines(b"-C "), [["-C"]]);
        assert_eq!(lines(b"-C  "), Vec::<Vec<String>>::new(), "ipvsadm loses it too");
        assert_eq!(lines(b""), Vec::<Vec<String>>::new());
    }

    #[test]
    fn long_words_are_cut() {
        let words = &lines(&[b'x'; 5000])[0];
        assert_eq!(words.iter().map(String::len).collect::<Vec<_>>(), [4096, 904]);
    }
}
