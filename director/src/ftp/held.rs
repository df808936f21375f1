//! Answers that end in another segment: none of their segments goes on until the real server has sent the answer again
//! in one, as TCP's retransmission does with what was never acknowledged.

use super::lines::Whose;

/// How many answers are held back at a time on one lcore.
const CAPACITY: usize = 64;
/// After so many segments a server is believed to be unable to send the answer in one; then it goes on as it is.
const PATIENCE: u8 = 8;

#[derive(Clone, Copy, Debug)]
struct Answer {
    whose: Whose,
    /// Sequence number of the segment in which it begins.
    sequence: u32,
    segments: u8,
}

/// The answers that an lcore holds back.
#[derive(Debug)]
pub struct Held {
    answers: Vec<Answer>,
    oldest: usize,
}

impl Default for Held {
    fn default() -> Self {
        Held { answers: Vec::with_capacity(CAPACITY), oldest: 0 }
    }
}

impl Held {
    /// Whether a segment with text does not go on; `is_cut` says that an answer begins in it and ends in another.
    pub fn holds(&mut self, whose: Whose, sequence: u32, is_cut: bool) -> bool {
        let known = self.answers.iter().position(|answer| answer.whose == whose);
        let Some(at) = known else {
            if is_cut {
                self.remember(Answer { whose, sequence, segments: 1 });
            }
            return is_cut;
        };
        let answer = &mut self.answers[at];
        let is_behind = sequence.wrapping_sub(answer.sequence) as i32 > 0;
        answer.segments += 1;
        if answer.segments > PATIENCE || !is_cut && !is_behind {
            self.answers.swap_remove(at);
            return false;
        }
        if !is_behind {
            answer.sequence = sequence;
        }
        true
    }

    fn remember(&mut self, answer: Answer) {
        if self.answers.len() < CAPACITY {
            self.answers.push(answer);
        } else {
            self.answers[self.oldest % CAPACITY] = answer;
            self.oldest += 1;
        }
    }
}

/// Whether text ends within a line that begins as the answer to PASV or EPSV does.
#[must_use]
pub fn is_cut(text: &[u8]) -> bool {
    let begin = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let line = &text[begin..];
    let begins = |answer: &[u8; 4]| answer.iter().zip(line).all(|(expected, byte)| expected == byte);
    !line.is_empty() && (begins(b"227 ") || begins(b"229 "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_answer_waits_for_its_repetition_in_one() {
        let whose = Whose { from: ([10, 0, 2, 11], 21).into(), to: ([10, 0, 1, 1], 3000).into() };
        let mut held = Held::default();
        assert!(!held.holds(whose, 100, false));
        assert!(held.holds(whose, 200, is_cut(b"227 Entering Pas")));
        assert!(held.holds(whose, 216, is_cut(b"sive Mode (1,2,3,4,5,6)\r\n")), "the rest of it");
        assert!(!held.holds(whose, 200, is_cut(b"227 Entering Passive Mode (1,2,3,4,5,6)\r\n")));
        assert!(!held.holds(whose, 216, false), "and no more");
        // One that always comes in pieces goes on some time.
        let passed = (0..20).filter(|n| !held.holds(whose, 300 + n % 2, n % 2 == 0)).count();
        assert!((1..=4).contains(&passed), "{passed}");
    }

    #[test]
    fn only_answers_that_matter_can_be_cut() {
        for cut in ["2", "227", "227 Entering", "220 hi\r\n227 En", "229 Ent"] {
            assert!(is_cut(cut.as_bytes()), "{cut}");
        }
        for whole in ["", "220 hi", "227 Entering (1,2,3,4,5,6)\r\n", "150 227", "226 Ent"] {
            assert!(!is_cut(whole.as_bytes()), "{whole}");
        }
    }
}
