//! Where a configuration comes from: files, and variables of the environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::ConfigError;

/// The environment, and what a file in RabbitMQ's format for `rabbitmq-env.conf` adds to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Variables(BTreeMap<String, String>);

impl Variables {
    /// The variables of this process over those of the file that `RABBITMQ_CONF_ENV_FILE` names.
    pub(super) fn of_process() -> Result<Self, ConfigError> {
        let Some(path) = std::env::var_os("RABBITMQ_CONF_ENV_FILE").filter(|path| !path.is_empty()) else {
            return Ok(Self::default());
        };
        let path = PathBuf::from(path);
        let text = std::fs::read_to_string(&path)
            .map_err(|cause| ConfigError(format!("cannot read {}: {cause}", path.display())))?;
        Self::read(&text).map_err(|cause| ConfigError(format!("{}: {cause}", path.display())))
    }

    /// Reads `NAME=value` lines; the name may lack its `RABBITMQ_`. Nothing that a shell would have to carry out.
    fn read(text: &str) -> Result<Self, String> {
        let mut variables = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let line = line.strip_prefix("export ").unwrap_or(line);
            let (name, value) = line
                .split_once('=')
                .filter(|(name, _)| !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_'))
                .ok_or_else(|| format!("line {number}: only NAME=value lines are read, not '{line}'"))?;
            let value = match value.chars().next() {
                Some(quote @ ('"' | '\'')) => {
                    let closed = value[1..].strip_suffix(quote);
                    closed.ok_or_else(|| format!("line {number}: a quote is not closed"))?
                }
                _ => value,
            };
            if value.contains(['$', '`']) {
                return Err(format!("line {number}: what a shell would put in is not known here"));
            }
            let prefixed = if name.starts_with("RABBITMQ_") { name.to_owned() } else { format!("RABBITMQ_{name}") };
            variables.insert(prefixed, value.to_owned());
        }
        Ok(Self(variables))
    }

    /// A variable that is not empty.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        let own = std::env::var(name).ok().filter(|value| !value.is_empty());
        own.or_else(|| self.0.get(name).filter(|value| !value.is_empty()).cloned())
    }
}

/// The files of a configuration, in the order in which they are read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Files {
    pub(super) read: Vec<PathBuf>,
    /// One in Erlang's terms, which is not read.
    pub(super) advanced: Option<PathBuf>,
}

impl Files {
    /// The file of the flag or of `RABBITMQ_CONFIG_FILE`, then those of `RABBITMQ_CONFIG_FILES` or of `conf.d` beside it.
    pub(super) fn find(flag: Option<&Path>, variable: impl Fn(&str) -> Option<String>) -> Self {
        let named = variable("RABBITMQ_CONFIG_FILE").map(PathBuf::from);
        let main = flag.map(Path::to_owned).or_else(|| named.clone().map(with_extension));
        let beside = main.as_deref().map(|main| main.parent().unwrap_or(Path::new("")).to_owned());
        let more = variable("RABBITMQ_CONFIG_FILES").map(PathBuf::from);
        let more = more.or_else(|| beside.as_ref().map(|dir| dir.join("conf.d")));
        let more = more.map(|more| matching(&more)).unwrap_or_default();
        let advanced = variable("RABBITMQ_ADVANCED_CONFIG_FILE").map(PathBuf::from);
        let advanced = advanced.or_else(|| beside.map(|dir| dir.join("advanced.config"))).filter(|path| path.is_file());
        // RabbitMQ's images name a main file that need not be there.
        let needed = flag.is_some() || more.is_empty();
        let main = main.filter(|main| needed || main.is_file());
        Self { read: main.into_iter().chain(more).collect(), advanced }
    }
}

/// RabbitMQ lets the name lack its `.conf`.
fn with_extension(path: PathBuf) -> PathBuf {
    if path.is_file() {
        return path;
    }
    let mut longer = path.clone().into_os_string();
    longer.push(".conf");
    let longer = PathBuf::from(longer);
    if longer.is_file() { longer } else { path }
}

/// The files that a pattern names, by name: a file, the `*.conf` of a directory, or a file name with `*`s.
pub(super) fn matching(pattern: &Path) -> Vec<PathBuf> {
    if pattern.is_file() {
        return vec![pattern.to_owned()];
    }
    let (dir, name) = match pattern.file_name().and_then(|name| name.to_str()) {
        Some(name) if !pattern.is_dir() => (pattern.parent().unwrap_or(Path::new("")), name),
        _ => (pattern, "*.conf"),
    };
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let Ok(found) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut files: Vec<PathBuf> = found
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_file() && path.file_name().and_then(|n| n.to_str()).is_some_and(|n| fits(name, n)))
        .collect();
    files.sort();
    files
}

/// Whether a name fits a pattern in which `*` stands for anything.
fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let mut last = None;
    for part in parts {
        if let Some(middle) = last.replace(part) {
            let Some(at) = rest.find(middle) else { return false };
            rest = &rest[at + middle.len()..];
        }
    }
    last.map_or(rest.is_empty(), |last| rest.ends_with(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_file_has_names_and_values() {
        let read = Variables::read("# mine\nNODENAME=one@host\nexport RABBITMQ_NODE_PORT='5999'\nLOG=\"info\"\n");
        let Variables(read) = read.expect("valid");
        let get = |name: &str| read.get(name).map(String::as_str);
        assert_eq!(get("RABBITMQ_NODENAME"), Some("one@host"));
        assert_eq!((get("RABBITMQ_NODE_PORT"), get("RABBITMQ_LOG")), (Some("5999"), Some("info")));
        let refused = |text: &str| Variables::read(text).expect_err("it is refused");
        assert!(refused("\nif true; then\n").starts_with("line 2: only NAME=value lines"));
        assert!(refused("NODENAME=$HOSTNAME").contains("a shell"));
        assert!(refused("NODENAME='a").contains("not closed"));
    }

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, name) in
            [("*.conf", "a.conf"), ("a*b*c", "a1b2b3c"), ("*", ""), ("a", "a"), ("1*.conf", "10.conf")]
        {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("*.conf", "a.conf~"), ("a*b*c", "acb"), ("a", "ab"), ("ab*b", "ab")] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn files_are_found_in_their_order() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir(path("conf.d")).expect("made");
        for name in ["rabbitmq.conf", "conf.d/20-b.conf", "conf.d/10-a.conf", "conf.d/30-c.conf.off"] {
            std::fs::write(path(name), "").expect("written");
        }
        let find = |flag: Option<&str>, variables: &[(&str, PathBuf)]| {
            let get = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| value.display().to_string())
            };
            Files::find(flag.map(path).as_deref(), get)
        };
        let more = [path("conf.d/10-a.conf"), path("conf.d/20-b.conf")];
        let all = vec![path("rabbitmq.conf"), more[0].clone(), more[1].clone()];
        assert_eq!(find(Some("rabbitmq.conf"), &[]), Files { read: all.clone(), advanced: None });
        // Without its extension, and one that is not there.
        assert_eq!(find(None, &[("RABBITMQ_CONFIG_FILE", path("rabbitmq"))]).read, all);
        assert_eq!(find(None, &[("RABBITMQ_CONFIG_FILE", path("other.conf"))]).read, more);
        let elsewhere =
            [("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf")), ("RABBITMQ_CONFIG_FILES", path("conf.d/1*.conf"))];
        assert_eq!(find(None, &elsewhere).read, all[..2]);
        std::fs::write(path("advanced.config"), "[].").expect("written");
        assert_eq!(find(Some("rabbitmq.conf"), &[]).advanced, Some(path("advanced.config")));
        assert_eq!(find(None, &[]), Files::default());
    }
}
