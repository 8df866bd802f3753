//! The name that was perhaps meant.

/// The candidate that is nearest to `word`, if any is near at all.
///
/// ```
/// use bpftune_core::near::nearest;
/// assert_eq!(nearest("tcp-bufer", ["tcp-buffer", "udp-buffer"]), Some("tcp-buffer"));
/// assert_eq!(nearest("tcp_buffer", ["tcp-buffer", "udp-buffer"]), Some("tcp-buffer"));
/// assert_eq!(nearest("neighbours", ["tcp-buffer", "udp-buffer"]), None);
/// ```
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance * 3 <= candidate.chars().count())
        .min()
        .map(|(_, candidate)| candidate)
}

/// How many letters must be put in, taken out or changed to come from one word to the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_letters() {
        for (a, b, count) in [
            ("", "", 0),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("ab", "ba", 2),
        ] {
            assert_eq!(distance(a, b), count, "{a} {b}");
            assert_eq!(distance(b, a), count, "{b} {a}");
        }
    }
}
