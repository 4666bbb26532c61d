//! How far an agent is, in words for a column of a table: `image 63 % (1.1 GB/s)`. No I/O and no clock.

use rackwright_api::host::AgentStatus;

/// What the agent does now. Until when, the caller adds.
pub fn told(agent: &AgentStatus) -> String {
    let step = agent.step.as_deref().map_or_else(|| "agent working".into(), words);
    let percent = agent.percent.map(|percent| format!(" {percent} %")).unwrap_or_default();
    let rate = agent.bytes_per_second.filter(|rate| *rate > 0).map(|bytes| format!(" ({})", rate(bytes)));
    format!("{step}{percent}{}", rate.unwrap_or_default())
}

/// A CamelCase step as people say it.
fn words(step: &str) -> String {
    if step == "WritingImage" {
        return "image".into();
    }
    let mut words = String::new();
    for letter in step.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

/// Decimal units, as networks and disks are sold.
fn rate(bytes: i64) -> String {
    let tenths = |unit: i64| (bytes + unit / 20) / (unit / 10);
    match bytes {
        999_500_000.. => format!("{}.{} GB/s", tenths(1_000_000_000) / 10, tenths(1_000_000_000) % 10),
        9_950_000.. => format!("{} MB/s", (bytes + 500_000) / 1_000_000),
        _ => format!("{}.{} MB/s", tenths(1_000_000) / 10, tenths(1_000_000) % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_short() {
        let cases = [
            (1_100_000_000, "1.1 GB/s"),
            (999_600_000, "1.0 GB/s"),
            (999_400_000, "999 MB/s"),
            (63_400_000, "63 MB/s"),
            (9_900_000, "9.9 MB/s"),
            (450_000, "0.5 MB/s"),
        ];
        for (bytes, text) in cases {
            assert_eq!(rate(bytes), text);
        }
    }

    #[test]
    fn steps_are_words() {
        assert_eq!(words("WritingImage"), "image");
        assert_eq!(words("WritingConfigDrive"), "writing config drive");
        assert_eq!(words("Wiping"), "wiping");
    }
}
