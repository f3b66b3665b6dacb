//! Hashing for exchanges that spread messages: the same on every machine and in every release, because what a hash
//! decides outlives the process.

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// Hashes octet strings; where one ends and the next begins matters (FNV-1a, then mixed).
pub(super) fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut state = FNV_OFFSET;
    let mut absorb = |octet: u8| state = (state ^ u64::from(octet)).wrapping_mul(FNV_PRIME);
    for part in parts {
        part.iter().copied().for_each(&mut absorb);
        (part.len() as u64).to_be_bytes().into_iter().for_each(&mut absorb);
    }
    mix(state)
}

/// Spreads what differs in a few bits over all of them (the last step of `SplitMix64`).
pub(super) const fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// A number below `count`, which is not 0: the share of `word` among all 64-bit numbers.
pub(super) fn below(word: u64, count: usize) -> usize {
    let share = (u128::from(word) * (count as u128)) >> 64;
    usize::try_from(share).expect("less than `count`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(hash([&b"ab"[..], b"c"]), hash([&b"a"[..], b"bc"]));
        assert_ne!(hash([&b""[..]]), hash([&b""[..], b""]));
        assert_eq!(hash([&b"a"[..]]), hash([&b"a"[..]]));
    }

    #[test]
    fn below_reaches_every_number_and_no_other() {
        assert_eq!((below(0, 3), below(u64::MAX / 2, 3), below(u64::MAX, 3)), (0, 1, 2));
    }
}
