//! "Did you mean": the nearest of a list of known names.

/// The known name nearest to `word`, if one is near enough to be a slip: at most a third of its
/// letters differ (by insertion, removal, replacement or swap of neighbours; case is free).
#[must_use]
pub fn closest<'n>(word: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let wanted: Vec<char> = word.to_lowercase().chars().collect();
    if wanted.len() > 100 {
        return None;
    }
    names
        .into_iter()
        .filter(|name| *name != word && name.len() <= 300)
        .map(|name| {
            let letters: Vec<char> = name.to_lowercase().chars().collect();
            let allowed = (wanted.len().max(letters.len()) / 3).max(1);
            (distance(&wanted, &letters), allowed, name)
        })
        .filter(|(distance, allowed, _)| distance <= allowed)
        .min_by_key(|(distance, ..)| *distance)
        .map(|(.., name)| name)
}

/// Optimal string alignment distance.
fn distance(a: &[char], b: &[char]) -> usize {
    let width = b.len() + 1;
    let mut rows: Vec<usize> = (0..width).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut row = vec![i + 1; width];
        let last = rows.len() - width;
        for (j, cb) in b.iter().enumerate() {
            let replaced = rows[last + j] + usize::from(ca != cb);
            let mut best = replaced.min(rows[last + j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *ca == b[j - 1] && a[i - 1] == *cb {
                best = best.min(rows[last - width + j - 1] + 1);
            }
            row[j + 1] = best;
        }
        rows.extend(row);
    }
    rows.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_only_for_a_slip() {
        let names = [
            "image",
            "imagePullPolicy",
            "name",
            "ports",
            "env",
            "resources",
        ];
        for (word, expected) in [
            ("imagePulPolicy", Some("imagePullPolicy")),
            ("imagepullpolicy", Some("imagePullPolicy")),
            ("prots", Some("ports")),
            ("nmae", Some("name")),
            ("eny", Some("env")),
            ("colour", None),
            ("image", None),
            ("", None),
        ] {
            assert_eq!(closest(word, names), expected, "{word}");
        }
    }
}
