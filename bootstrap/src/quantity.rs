//! Quantities, percentages and durations as Kubernetes writes them: shapes only, nothing is computed with them.

/// True when `text` is a quantity that is not negative: `500m`, `4Gi`, `1.5`, `1e3`.
pub(crate) fn is_quantity(text: &str) -> bool {
    const SUFFIXES: [&str; 16] = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let (number, suffix) = split_number(text);
    is_decimal(number) && (SUFFIXES.contains(&suffix) || is_exponent(suffix))
}

/// True when `text` is a percentage from 0 to 100: `5%`, `7.5%`.
pub(crate) fn is_percentage(text: &str) -> bool {
    text.strip_suffix('%')
        .filter(|number| is_decimal(number))
        .and_then(|number| number.parse::<f64>().ok())
        .is_some_and(|percent| percent <= 100.0)
}

/// True when `text` is a duration longer than nothing, as Go writes it: `90s`, `1m30s`, `1.5h`.
pub(crate) fn is_duration(text: &str) -> bool {
    const UNITS: [&str; 7] = ["ns", "us", "µs", "ms", "s", "m", "h"];
    let mut rest = text;
    let mut some = false;
    while !rest.is_empty() {
        let (number, after) = split_number(rest);
        let unit = &after[..after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len())];
        if !is_decimal(number) || !UNITS.contains(&unit) {
            return false;
        }
        some |= number.bytes().any(|byte| (b'1'..=b'9').contains(&byte));
        rest = &after[unit.len()..];
    }
    some
}

/// The digits and points that `text` starts with, and the rest.
fn split_number(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len()))
}

fn is_decimal(text: &str) -> bool {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits(whole) && digits(fraction)
}

fn is_exponent(text: &str) -> bool {
    let Some(power) = text.strip_prefix(['e', 'E']) else {
        return false;
    };
    let power = power.strip_prefix(['+', '-']).unwrap_or(power);
    !power.is_empty() && power.len() <= 2 && power.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_told_from_other_text() {
        for text in ["0", "1", "500m", "4Gi", "1.5", "1e3", "2E-1", "3E", "128974848", "50Mi"] {
            assert!(is_quantity(text), "{text}");
        }
        for text in ["", "-1", "Gi", "4GB", "4 Gi", "1.", ".5", "1e", "5%", "0x10", "1.2.3", "1_000"] {
            assert!(!is_quantity(text), "{text}");
        }
    }

    #[test]
    fn percentages_end_at_a_hundred() {
        assert!(["0%", "5%", "7.5%", "100%"].into_iter().all(is_percentage));
        assert!(!["", "%", "101%", "5", "-5%", "5 %"].into_iter().any(is_percentage));
    }

    #[test]
    fn durations_have_units_and_last() {
        assert!(["90s", "1m30s", "1.5h", "500ms", "1h0m0s"].into_iter().all(is_duration));
        assert!(!["", "90", "s", "0s", "1d", "-1s", "1m 30s"].into_iter().any(is_duration));
    }
}
