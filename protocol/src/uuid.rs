//! SMBIOS system UUIDs, as BMCs and kernels tell them.

/// True when both are UUIDs and of different machines. SMBIOS 2.6 stores the first three fields with their bytes turned
/// round (DSP0134 section 7.2.1); firmware, BMC and kernel do not always agree on it, so either order counts as the
/// same. UUIDs that say nothing (all zeros, all ones, not a UUID at all) tell nothing apart.
pub fn differ(one: &str, other: &str) -> bool {
    match (parse(one), parse(other)) {
        (Some(one), Some(other)) => one != other && turned(one) != other,
        _ => false,
    }
}

/// True for a UUID that tells one machine from another.
pub fn says_something(text: &str) -> bool {
    parse(text).is_some()
}

fn parse(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text.trim().bytes().filter(|byte| *byte != b'-').collect();
    if digits.len() != 32 {
        return None;
    }
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |byte: u8| (byte as char).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    let says_nothing = bytes.iter().all(|byte| *byte == 0) || bytes.iter().all(|byte| *byte == 0xff);
    (!says_nothing).then_some(bytes)
}

fn turned(mut uuid: [u8; 16]) -> [u8; 16] {
    uuid[0..4].reverse();
    uuid[4..6].reverse();
    uuid[6..8].reverse();
    uuid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_byte_order_is_the_same_machine_and_nonsense_tells_nothing() {
        let uuid = "00112233-4455-6677-8899-aabbccddeeff";
        for (other, differs) in [
            (uuid, false),
            ("00112233-4455-6677-8899-AABBCCDDEEFF", false),
            ("33221100-5544-7766-8899-aabbccddeeff", false),
            ("00112233445566778899aabbccddeeff", false),
            ("33221100-5544-7766-8899-aabbccddeefe", true),
            ("33221100-4455-6677-8899-aabbccddeeff", true),
            ("00000000-0000-0000-0000-000000000000", false),
            ("ffffffff-ffff-ffff-ffff-ffffffffffff", false),
            ("Not Settable", false),
            ("", false),
        ] {
            assert_eq!(differ(uuid, other), differs, "{other}");
            assert_eq!(differ(other, uuid), differs, "{other}");
        }
        assert!(says_something(uuid) && !says_something("ABCD") && !says_something(&"0".repeat(32)));
    }
}
