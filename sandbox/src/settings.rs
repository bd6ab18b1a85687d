//! A person's settings for one project: a small file in the configuration
//! folder, never in the project, where the agent could write it.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result};
use crate::host::{Host, write_atomically};
use crate::project::Project;

/// `$XDG_CONFIG_HOME/rcc/projects/<id>.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// The project's folder, so that a list of projects can be shown.
    pub path: String,
    /// `dev`, `small`, or a name that the engine knows.
    pub image: String,
    /// Claude acts without asking; the walls hold it (DESIGN 5).
    pub act_without_asking: bool,
    /// Memory in MiB; none is half of the RAM, at most 8 GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            path: String::new(),
            image: "dev".into(),
            act_without_asking: true,
            memory_mib: None,
        }
    }
}

impl Settings {
    fn file(project: &Project, host: &Host) -> PathBuf {
        host.config.join("projects").join(format!("{}.toml", project.id()))
    }

    /// Reads them; the defaults when there are none.
    ///
    /// # Errors
    /// [`Code::Settings`] with the place in the file.
    pub fn load(project: &Project, host: &Host) -> Result<Self> {
        let path = Self::file(project, host);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let path = project.path().to_string_lossy().into_owned();
                return Ok(Self { path, ..Self::default() });
            }
            Err(e) => {
                return Err(Error::new(
                    Code::Settings,
                    format!("{} cannot be read: {e}.", path.display()),
                ));
            }
        };
        let settings: Self = toml::from_str(&text).map_err(|e| {
            Error::new(Code::Settings, format!("{} is not valid.", path.display()))
                .with_detail(e.to_string())
        })?;
        match settings.memory_mib {
            Some(mib) if !(256..=1 << 24).contains(&mib) => Err(Error::new(
                Code::Settings,
                format!("{}: memory-mib is {mib}; it can be 256 to 16777216.", path.display()),
            )),
            _ => Ok(settings),
        }
    }

    /// Writes them.
    ///
    /// # Errors
    /// [`Code::Io`].
    pub fn save(&self, project: &Project, host: &Host) -> Result<()> {
        let path = Self::file(project, host);
        let text = toml::to_string(self).map_err(|e| Error::io("write", &path, e))?;
        write_atomically(&path, text.as_bytes())
    }

    /// Whether the project was initialised.
    pub fn exist(project: &Project, host: &Host) -> bool {
        Self::file(project, host).exists()
    }

    /// Every project with settings, by path.
    ///
    /// # Errors
    /// [`Code::Io`] when the folder cannot be read; a file that is not valid is passed over.
    pub fn all(host: &Host) -> Result<Vec<Self>> {
        let folder = host.config.join("projects");
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::io("read", &folder, e)),
        };
        let mut all: Vec<Self> = entries
            .filter_map(|entry| entry.ok())
            .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "toml"))
            .filter_map(|entry| toml::from_str(&fs::read_to_string(entry.path()).ok()?).ok())
            .collect();
        all.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_come_back_as_they_were_and_mistakes_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let host = crate::testing::host(dir.path());
        let folder = dir.path().join("code");
        fs::create_dir(&folder).unwrap();
        let project = Project::open(&folder, &host).unwrap();
        assert!(!Settings::exist(&project, &host));
        let mut settings = Settings::load(&project, &host).unwrap();
        assert!(settings.act_without_asking && settings.image == "dev");
        settings.memory_mib = Some(4096);
        settings.save(&project, &host).unwrap();
        assert_eq!(Settings::load(&project, &host).unwrap(), settings);
        assert_eq!(Settings::all(&host).unwrap(), [settings]);
        for bad in ["imgae = \"dev\"\n", "memory-mib = 1\n", "memory-mib = \"x\"\n"] {
            fs::write(Settings::file(&project, &host), bad).unwrap();
            assert_eq!(
                Settings::load(&project, &host).unwrap_err().code(),
                Code::Settings,
                "{bad}"
            );
        }
    }
}
