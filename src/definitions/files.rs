//! Files of definitions.

use std::fmt;
use std::path::Path;

use super::Definitions;

/// Why definitions are not taken; names the file or the entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DefinitionsError(String);

impl DefinitionsError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for DefinitionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DefinitionsError {}

/// Reads a file, or every `.json` file of a directory in the order of their names; each with its path.
pub(crate) fn read(path: &Path) -> Result<Vec<(String, Definitions)>, DefinitionsError> {
    let wrong = |path: &Path, cause: &dyn fmt::Display| {
        DefinitionsError::new(format!("definitions {}: {cause}", path.display()))
    };
    let mut files = Vec::new();
    if path.is_dir() {
        for entry in std::fs::read_dir(path).map_err(|cause| wrong(path, &cause))? {
            let file = entry.map_err(|cause| wrong(path, &cause))?.path();
            if file.extension().is_some_and(|extension| extension == "json") {
                files.push(file);
            }
        }
        files.sort();
    } else {
        files.push(path.to_owned());
    }
    let read = |file: std::path::PathBuf| {
        let text = std::fs::read(&file).map_err(|cause| wrong(&file, &cause))?;
        let parsed = Definitions::parse(&text).map_err(|cause| wrong(&file, &cause))?;
        Ok((file.display().to_string(), parsed))
    };
    files.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_read_in_order_and_a_mistake_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("written");
        write("b.json", r#"{"users": []}"#);
        write("a.json", r#"{"vhosts": [{"name": "v"}]}"#);
        write("c.txt", "not read");
        let all = read(dir.path()).expect("read");
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].1.vhosts[0].name, "v");
        write("b.json", r#"{"users": [{"name": "u", "tags": 5}]}"#);
        let wrong = read(dir.path()).expect_err("wrong").to_string();
        assert!(wrong.contains("b.json: user 'u': "), "{wrong}");
        assert!(read(&dir.path().join("none")).is_err());
    }
}
