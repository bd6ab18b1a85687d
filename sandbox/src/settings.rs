//! A person's settings for one project: a small file in the configuration
//! folder, never in the project, where the agent could write it.

use std::fs;
use std::io::ErrorKind;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::engine::LimitsWanted;
use crate::error::{Code, Error, Result};
use crate::host::{Host, write_atomically};
use crate::lock::Lock;
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
    /// Claude logs in by itself in this project: the token of all projects is not
    /// handed in (THREATS C2).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub own_login: bool,
    /// Programs inside may make namespaces of their own, as bubblewrap and browsers
    /// do (THREATS N18): more of the kernel is open to them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub user_namespaces: bool,
    /// Memory in MiB; none is half of the RAM, at most 8 GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    /// Whole cores; none is all of the computer's but one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cores: Option<u32>,
    /// Processes and threads; none is 4096.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<u32>,
    /// Packages of the distribution's that the built image has besides its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<String>,
    /// Hosts that were blocked and that the person does not want to hear of again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub never_ask: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            path: String::new(),
            image: "dev".into(),
            act_without_asking: true,
            own_login: false,
            user_namespaces: false,
            memory_mib: None,
            cores: None,
            processes: None,
            packages: Vec::new(),
            never_ask: Vec::new(),
        }
    }
}

impl Settings {
    /// Where a project's are, whether the file is there or not.
    pub fn file(project: &Project, host: &Host) -> PathBuf {
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
        settings.check(&path)?;
        Ok(settings)
    }

    fn check(&self, path: &Path) -> Result<()> {
        let within = |name: &str, value: Option<u64>, range: RangeInclusive<u64>| match value {
            Some(value) if !range.contains(&value) => Err(Error::new(
                Code::Settings,
                format!(
                    "{}: {name} is {value}; it can be {} to {}.",
                    path.display(),
                    range.start(),
                    range.end()
                ),
            )),
            _ => Ok(()),
        };
        within("memory-mib", self.memory_mib, 256..=1 << 24)?;
        within("cores", self.cores.map(u64::from), 1..=1024)?;
        within("processes", self.processes.map(u64::from), 64..=1 << 22)?;
        match self.packages.iter().find(|name| !is_package(name)) {
            None => Ok(()),
            Some(name) => Err(Error::new(
                Code::Settings,
                format!(
                    "{}: `{}` is not the name of a package.",
                    path.display(),
                    crate::display::line(name, 80)
                ),
            )
            .hint_is("Write names as apt knows them, for instance golang or libpq-dev.")),
        }
    }

    /// The settings that are there already, changed by `change` and written,
    /// under a lock: two faces that save at once lose nothing.
    ///
    /// # Errors
    /// As [`Settings::load`] and [`Settings::save`].
    pub async fn update(
        project: &Project,
        host: &Host,
        change: impl FnOnce(&mut Self),
    ) -> Result<Self> {
        let lock = host.runtime.join(format!("{}.settings.lock", project.id()));
        let _lock = Lock::take(&lock).await?;
        let mut settings = Self::load(project, host)?;
        change(&mut settings);
        settings.save(project, host)?;
        Ok(settings)
    }

    /// Writes them.
    ///
    /// # Errors
    /// [`Code::Settings`] for a value that cannot be used, [`Code::Io`].
    pub fn save(&self, project: &Project, host: &Host) -> Result<()> {
        let path = Self::file(project, host);
        self.check(&path)?;
        let text = toml::to_string(self).map_err(|e| Error::io("write", &path, e))?;
        write_atomically(&path, text.as_bytes())
    }

    /// What its sandbox may use.
    pub fn limits(&self) -> LimitsWanted {
        LimitsWanted {
            memory: self.memory_mib.map(|mib| mib << 20),
            cores: self.cores,
            processes: self.processes,
        }
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

/// The names that Debian's policy manual allows (5.6.7), so that nothing else
/// reaches a command line.
fn is_package(name: &str) -> bool {
    let first = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
    first && (2..=100).contains(&name.len()) && name.chars().all(plain)
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
        settings.user_namespaces = true;
        settings.packages = vec!["golang".into(), "libstdc++6".into()];
        settings.never_ask = vec!["ads.example".into()];
        settings.save(&project, &host).unwrap();
        assert_eq!(Settings::load(&project, &host).unwrap(), settings);
        assert_eq!(Settings::all(&host).unwrap(), [settings]);
        for bad in [
            "imgae = \"dev\"\n",
            "memory-mib = 1\n",
            "memory-mib = \"x\"\n",
            "cores = 0\n",
            "processes = 1\n",
            "packages = [\"-x\"]\n",
            "packages = [\"a b\"]\n",
            "packages = [\"a,b\"]\n",
        ] {
            fs::write(Settings::file(&project, &host), bad).unwrap();
            assert_eq!(
                Settings::load(&project, &host).unwrap_err().code(),
                Code::Settings,
                "{bad}"
            );
        }
    }
}
