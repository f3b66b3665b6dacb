//! What the management HTTP API allows, and where it listens.

use super::HttpListener;

/// The port of the management HTTP API.
pub const MANAGEMENT_PORT: u16 = 15672;

/// The management HTTP API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagementConfig {
    /// Where it listens.
    pub listen: HttpListener,
    /// Origins whose web pages may use it; `*` for all.
    pub cors_allow_origins: Vec<String>,
    /// For how many seconds a browser may remember that.
    pub cors_max_age_seconds: u64,
    /// Octets of a request's body at most, as RabbitMQ's.
    pub max_body_bytes: usize,
}

impl Default for ManagementConfig {
    fn default() -> Self {
        Self {
            listen: HttpListener::new(MANAGEMENT_PORT),
            cors_allow_origins: Vec::new(),
            cors_max_age_seconds: 1800,
            max_body_bytes: 20_000_000,
        }
    }
}

impl ManagementConfig {
    /// No API.
    pub fn off() -> Self {
        Self { listen: HttpListener::new(MANAGEMENT_PORT).on(Vec::new()), ..Self::default() }
    }

    /// On a free port of the loopback interface.
    pub fn for_tests() -> Self {
        Self { listen: HttpListener::new(MANAGEMENT_PORT).for_tests(), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Settings;

    #[test]
    fn origins_add_up() {
        let mut settings = Settings::default();
        let text = "management.cors.allow_origins.1 = https://a\nmanagement.cors.allow_origins.2 = https://b";
        settings.apply_text(text).expect("valid");
        assert_eq!(settings.config.management.cors_allow_origins, ["https://a", "https://b"]);
    }
}
