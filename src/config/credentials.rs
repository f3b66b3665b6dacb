//! Which passwords new ones may be.

use crate::engine::directory::Pattern;

/// As RabbitMQ's, so that its default user's is one.
const MIN_LENGTH: usize = 5;

/// How new passwords are judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CredentialRule {
    /// Every one is taken.
    #[default]
    Anything,
    /// By its length.
    MinLength,
    /// By whether a pattern is found in it.
    Regexp,
}

/// What new passwords have to be. Hashes cannot be judged and are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialValidator {
    /// How they are judged.
    pub rule: CredentialRule,
    /// Their octets at least.
    pub min_length: usize,
    /// What is to be found in them.
    pub regexp: Option<String>,
}

impl Default for CredentialValidator {
    fn default() -> Self {
        Self { rule: CredentialRule::default(), min_length: MIN_LENGTH, regexp: None }
    }
}

impl CredentialValidator {
    /// What is wrong with a new password, in RabbitMQ's words; `None` is that of a user without one.
    pub(crate) fn check(&self, password: Option<&str>) -> Result<(), String> {
        match self.rule {
            CredentialRule::Anything => Ok(()),
            CredentialRule::MinLength => {
                let long_enough = password.is_some_and(|password| password.len() >= self.min_length);
                let wrong = || format!("minimum required password length is {}", self.min_length);
                if long_enough { Ok(()) } else { Err(wrong()) }
            }
            CredentialRule::Regexp => {
                let Some(regexp) = &self.regexp else {
                    return Err("rabbit.credential_validator.regexp config key is undefined".to_owned());
                };
                let pattern = Pattern::of_policy(regexp)?;
                let found = password.is_some_and(|password| pattern.matches(password.as_bytes()));
                let wrong = || "provided password does not match the validator regular expression".to_owned();
                if found { Ok(()) } else { Err(wrong()) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Settings;

    #[test]
    fn passwords_are_judged_as_the_configuration_says() {
        let check = |text: &str, password: Option<&str>| {
            let mut settings = Settings::default();
            settings.apply_text(text).expect("valid");
            settings.config.credentials.check(password).err()
        };
        assert_eq!((check("", Some("")), check("", None)), (None, None));
        assert_eq!(check("credential_validator.min_length = 8", Some("x")), None, "another rule counts");
        let length = "credential_validator.validation_backend = rabbit_credential_validator_min_password_length\n";
        let short = |least: u32| Some(format!("minimum required password length is {least}"));
        assert_eq!((check(length, Some("guest")), check(length, Some("gest"))), (None, short(5)));
        let longer = format!("{length}credential_validator.min_length = 8");
        assert_eq!((check(&longer, Some("12345678")), check(&longer, Some("1234567"))), (None, short(8)));
        assert_eq!(check(&longer, None), short(8));
        let regexp = "credential_validator.validation_backend = rabbit_credential_validator_password_regexp\n";
        let wrong = Some("provided password does not match the validator regular expression".to_owned());
        let digits = format!("{regexp}credential_validator.regexp = ^[0-9]{{3}}$");
        assert_eq!((check(&digits, Some("123")), check(&digits, Some("12a"))), (None, wrong.clone()));
        assert_eq!(check(&digits, None), wrong);
        assert_eq!(
            check(regexp, Some("123")).as_deref(),
            Some("rabbit.credential_validator.regexp config key is undefined")
        );
        let mut settings = Settings::default();
        assert!(settings.apply_text("credential_validator.regexp = [").is_err());
        assert!(settings.apply_text("credential_validator.validation_backend = my_own").is_err());
    }
}
