//! The word somebody probably meant.

/// The longest word compared, in bytes.
const LONGEST: usize = 32;

/// The one of `words` that is a slip of the hand away from `typed`, if any is.
///
/// A slip is up to two letters wrong, missing, added or swapped, and never more than a third of
/// the word.
pub(crate) fn nearest(
    typed: &str,
    words: impl Iterator<Item = &'static str>,
) -> Option<&'static str> {
    words
        .filter_map(|word| Some((distance(typed.as_bytes(), word.as_bytes())?, word)))
        .filter(|(slips, word)| *slips <= 2 && slips * 3 <= word.len().max(3))
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, word)| word)
}

/// Optimal string alignment distance, letter case ignored; `None` for words beyond [`LONGEST`].
fn distance(a: &[u8], b: &[u8]) -> Option<usize> {
    if a.len() > LONGEST || b.len() > LONGEST {
        return None;
    }
    // Three rows of the classic table: two above, one above, and the one being filled.
    let mut above2 = [0usize; LONGEST + 1];
    let mut above: [usize; LONGEST + 1] = core::array::from_fn(|column| column);
    for (row, x) in a.iter().enumerate() {
        let mut current = [row + 1; LONGEST + 1];
        for (column, y) in b.iter().enumerate() {
            let replaced = above[column] + usize::from(!x.eq_ignore_ascii_case(y));
            let mut best = replaced.min(above[column + 1] + 1).min(current[column] + 1);
            let swapped = row > 0
                && column > 0
                && x.eq_ignore_ascii_case(&b[column - 1])
                && a[row - 1].eq_ignore_ascii_case(y);
            if swapped {
                best = best.min(above2[column - 1] + 1);
            }
            current[column + 1] = best;
        }
        above2 = above;
        above = current;
    }
    above.get(b.len()).copied()
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_slip_of_the_hand_is_recognised() {
        let words = ["trust", "pool", "whole-pages", "per"];
        let nearest = |typed| nearest(typed, words.into_iter());
        assert_eq!(nearest("trsut"), Some("trust"));
        assert_eq!(nearest("Trust"), Some("trust"));
        assert_eq!(nearest("whole_pages"), Some("whole-pages"));
        assert_eq!(nearest("pools"), Some("pool"));
        assert_eq!(nearest("p"), None);
        assert_eq!(nearest("colour"), None);
        assert_eq!(nearest(""), None);
    }

    proptest! {
        #[test]
        fn distance_is_symmetric_and_zero_only_for_the_same_word(
            a in "[a-d]{0,32}",
            b in "[a-d]{0,32}",
        ) {
            let (a, b) = (a.as_bytes(), b.as_bytes());
            prop_assert_eq!(distance(a, b), distance(b, a));
            prop_assert_eq!(distance(a, b) == Some(0), a == b);
        }

        #[test]
        fn any_text_can_be_compared(typed in ".*") {
            let _ = nearest(&typed, ["trust", "é"].into_iter());
        }
    }
}
