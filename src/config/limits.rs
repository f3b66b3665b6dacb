//! Limits of memory and free disk space, and the forms in which `rabbitmq.conf` gives them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// A share of something, in millionths: `0.6` is 600 000 of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Share(u64);

impl Share {
    const ONE: u64 = 1_000_000;
    /// All of it.
    pub const ALL: Self = Self(Self::ONE);

    /// The given number of thousandths.
    pub const fn from_thousandths(thousandths: u32) -> Self {
        Self(thousandths as u64 * 1000)
    }

    /// Reads a decimal number such as `0.6`; what is beyond the sixth place is not looked at.
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|octet| octet.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) {
            return None;
        }
        let mut millionths = whole.parse::<u64>().ok()?.checked_mul(Self::ONE)?;
        let mut place = Self::ONE / 10;
        for digit in fraction.bytes().take(6) {
            millionths = millionths.checked_add(u64::from(digit - b'0') * place)?;
            place /= 10;
        }
        Some(Self(millionths))
    }

    /// This share of `whole`, at most what can be counted.
    pub fn of(self, whole: u64) -> u64 {
        let part = u128::from(whole) * u128::from(self.0) / u128::from(Self::ONE);
        u64::try_from(part).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fraction = format!("{:06}", self.0 % Self::ONE);
        write!(f, "{}", self.0 / Self::ONE)?;
        match fraction.trim_end_matches('0') {
            "" => Ok(()),
            digits => write!(f, ".{digits}"),
        }
    }
}

/// How much of a resource may be used, or must be left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// So many octets.
    Octets(u64),
    /// A share of the memory that the broker may use.
    OfMemory(Share),
}

impl Limit {
    /// The limit in octets.
    pub fn octets(self, memory: u64) -> u64 {
        match self {
            Self::Octets(octets) => octets,
            Self::OfMemory(share) => share.of(memory),
        }
    }
}

/// When publishers are stopped because something runs low.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResourceLimits {
    /// Memory that the process uses at most. RabbitMQ 4's default: 0.6 of what there is.
    pub memory: Limit,
    /// Space that the disk of the data directory has at least. RabbitMQ's default: 50 MB.
    pub disk_free: Limit,
    /// The memory that there is, instead of what the system says.
    pub total_memory: Option<u64>,
}

impl Default for ResourceLimits {
    fn default() -> Self {
        Self {
            memory: Limit::OfMemory(Share::from_thousandths(600)),
            disk_free: Limit::Octets(50_000_000),
            total_memory: None,
        }
    }
}

/// Reads octets with RabbitMQ's units: `k`, `M`, `G`, `T`, `P` and `KiB`, … count in 1024s, `kB`, `MB`, … in 1000s.
pub fn parse_octets(text: &str) -> Result<u64, ConfigError> {
    let refused = || ConfigError(format!("expected octets such as 50MB, 1GiB or 1048576, got '{text}'"));
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().map_err(|_| refused())?;
    let unit = unit.to_ascii_lowercase();
    let (letter, base) = match unit.as_bytes() {
        [] => return Ok(number),
        [letter] | [letter, b'i', b'b'] => (*letter, 1024_u64),
        [letter, b'b'] => (*letter, 1000),
        _ => return Err(refused()),
    };
    let power = b"kmgtp".iter().position(|known| *known == letter).ok_or_else(refused)?;
    (0..=power).try_fold(number, |octets, _| octets.checked_mul(base)).ok_or_else(refused)
}

/// Reads a share within bounds.
pub fn parse_share(text: &str, most: Share) -> Result<Share, ConfigError> {
    let share = Share::parse(text).filter(|share| *share <= most);
    share.ok_or_else(|| ConfigError(format!("expected a share from 0 to {}, got '{text}'", most.0 / Share::ONE)))
}

/// The largest `disk_free_limit.relative`: that many times the memory.
pub(crate) const DISK_SHARE_MAX: Share = Share(1000 * Share::ONE);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_have_rabbitmqs_units() {
        for (text, octets) in [
            ("0", 0),
            ("1048576", 1_048_576),
            ("50MB", 50_000_000),
            ("1GB", 1_000_000_000),
            ("1GiB", 1 << 30),
            ("2k", 2048),
            ("3M", 3 << 20),
            ("4gib", 4 << 30),
            ("5kb", 5000),
            ("1T", 1 << 40),
        ] {
            assert_eq!(parse_octets(text), Ok(octets), "{text}");
        }
        for text in ["", "MB", "1.5GB", "1 GB", "-1", "1XB", "99999999999P", "1GiBs", "1ib"] {
            assert!(parse_octets(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shares_are_decimal_numbers() {
        assert_eq!(Share::parse("0.6"), Some(Share::from_thousandths(600)));
        assert_eq!(Share::parse("1"), Some(Share::ALL));
        assert_eq!(Share::parse("0.6").map(|share| share.of(1000)), Some(600));
        assert_eq!(Share::parse("1.5").map(|share| share.of(u64::MAX)), Some(u64::MAX));
        for text in ["", ".5", "-1", "a", "0.x", "99999999999999999999"] {
            assert_eq!(Share::parse(text), None, "{text}");
        }
        assert!(parse_share("1.1", Share::ALL).is_err() && parse_share("1.5", DISK_SHARE_MAX).is_ok());
    }

    #[test]
    fn a_limit_is_counted_in_octets() {
        assert_eq!(Limit::Octets(7).octets(100), 7);
        assert_eq!(Limit::OfMemory(Share::from_thousandths(250)).octets(100), 25);
    }
}
