//! Where things are by default on this system.

use std::path::{Path, PathBuf};

use super::DataDir;

/// The user's data folder; without a home directory a folder below the working directory.
pub(super) fn data_dir() -> DataDir {
    let base = directories::ProjectDirs::from("", "", "leveret");
    DataDir::Path(base.map_or_else(|| Path::new("leveret-data").to_owned(), |dirs| dirs.data_dir().to_owned()))
}

/// Where a broker without a data directory has its control socket: in a folder that is the user's own.
pub(crate) fn ephemeral_socket() -> PathBuf {
    let dirs = directories::ProjectDirs::from("", "", "leveret");
    let folder = dirs.map(|dirs| dirs.runtime_dir().unwrap_or_else(|| dirs.data_dir()).to_owned());
    folder.unwrap_or_else(|| PathBuf::from("leveret-data")).join("ephemeral.sock")
}
