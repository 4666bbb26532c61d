//! Kubernetes quantities, as far as a kubelet computes with them.

/// A quantity in thousandths, or `None` when `text` is none.
pub fn milli(text: &str) -> Option<i128> {
    let split = text.find(|char: char| !char.is_ascii_digit() && char != '.' && char != '-').unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let factor: i128 = match suffix {
        "m" => 1,
        "" => 1000,
        "k" => 1000_i128.pow(2),
        "M" => 1000_i128.pow(3),
        "G" => 1000_i128.pow(4),
        "T" => 1000_i128.pow(5),
        "P" => 1000_i128.pow(6),
        "Ki" => 1000 << 10,
        "Mi" => 1000 << 20,
        "Gi" => 1000 << 30,
        "Ti" => 1000 << 40,
        "Pi" => 1000 << 50,
        _ => return None,
    };
    let (negative, number) = number.strip_prefix('-').map_or((false, number), |number| (true, number));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let value = digits.checked_mul(factor)? / 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    Some(if negative { -value } else { value })
}

/// `milli` as the kubelet writes processors: `4` or `3500m`.
pub fn cpu(milli: i128) -> String {
    if milli % 1000 == 0 { (milli / 1000).to_string() } else { format!("{milli}m") }
}

/// `milli` as the kubelet writes memory: `1024Ki`, or bytes when it is no whole number of KiB.
pub fn memory(milli: i128) -> String {
    let bytes = milli / 1000;
    if bytes % 1024 == 0 { format!("{}Ki", bytes / 1024) } else { bytes.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_with_their_suffixes() {
        for (text, expected) in [
            ("4", Some(4000)),
            ("500m", Some(500)),
            ("1.5", Some(1500)),
            ("4Gi", Some(4 * 1024 * 1024 * 1024 * 1000)),
            ("0.5Gi", Some(512 * 1024 * 1024 * 1000)),
            ("1k", Some(1_000_000)),
            ("", None),
            ("10%", None),
            ("4GB", None),
            ("Gi", None),
        ] {
            assert_eq!(milli(text), expected, "{text:?}");
        }
    }

    #[test]
    fn quantities_are_written_as_the_kubelet_writes_them() {
        assert_eq!((cpu(4000), cpu(3500)), ("4".into(), "3500m".into()));
        assert_eq!((memory(2048 * 1000), memory(1000 * 1000)), ("2Ki".into(), "1000".into()));
    }
}
