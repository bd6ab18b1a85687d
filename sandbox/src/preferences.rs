//! What a person chose for all projects: how the window looks and tells things,
//! how long names of hosts are kept, how talkative Claude Code is.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result};
use crate::host::{Host, write_atomically};

/// Text sizes that can be chosen, in CSS pixels.
pub const FONT_SIZES: std::ops::RangeInclusive<u8> = 8..=32;

/// Days that the log of blocked hosts may be kept (PRODUCT 6).
pub const LOG_DAYS: [u16; 3] = [0, 7, 30];

/// Light, dark, or as the desktop says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Theme {
    /// As the desktop says.
    #[default]
    System,
    /// Always light.
    Light,
    /// Always dark.
    Dark,
}

/// How much lines and letters stand out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Contrast {
    /// As the desktop says.
    #[default]
    System,
    /// Always much.
    High,
}

/// `$XDG_CONFIG_HOME/rcc/preferences.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Preferences {
    /// How the window looks.
    pub theme: Theme,
    /// See there.
    pub contrast: Contrast,
    /// Of the terminal, in CSS pixels; one of [`FONT_SIZES`].
    pub font_size: u8,
    /// A program in the terminal that is in sight may write the clipboard.
    pub programs_may_copy: bool,
    /// Claude draws in the scrollback instead of the whole screen.
    pub scrollback: bool,
    /// Tell when Claude needs the person.
    pub notify_needs_you: bool,
    /// Tell when a host was blocked.
    pub notify_blocked: bool,
    /// One of [`LOG_DAYS`]; 0 writes nothing.
    pub keep_log_days: u16,
    /// Claude Code's own telemetry.
    pub claude_telemetry: bool,
    /// Closing the window leaves rcc in the tray.
    pub close_hides: bool,
}

impl Default for Preferences {
    fn default() -> Self {
        Self {
            theme: Theme::System,
            contrast: Contrast::System,
            font_size: 13,
            programs_may_copy: true,
            scrollback: false,
            notify_needs_you: true,
            notify_blocked: true,
            keep_log_days: 7,
            claude_telemetry: false,
            close_hides: true,
        }
    }
}

impl Preferences {
    pub(crate) fn file(host: &Host) -> PathBuf {
        host.config.join("preferences.toml")
    }

    /// Reads them; the defaults when there are none.
    ///
    /// # Errors
    /// [`Code::Settings`] with the place in the file.
    pub fn load(host: &Host) -> Result<Self> {
        let path = Self::file(host);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => {
                let why = format!("{} cannot be read: {e}.", path.display());
                return Err(Error::new(Code::Settings, why));
            }
        };
        let preferences: Self = toml::from_str(&text).map_err(|e| {
            Error::new(Code::Settings, format!("{} is not valid.", path.display()))
                .with_detail(e.to_string())
        })?;
        preferences.check(&path)?;
        Ok(preferences)
    }

    /// Writes them.
    ///
    /// # Errors
    /// [`Code::Settings`] for a value out of its range, [`Code::Io`].
    pub fn save(&self, host: &Host) -> Result<()> {
        let path = Self::file(host);
        self.check(&path)?;
        let text = toml::to_string(self).map_err(|e| Error::io("write", &path, e))?;
        write_atomically(&path, text.as_bytes())
    }

    fn check(&self, path: &Path) -> Result<()> {
        let path = path.display();
        if !FONT_SIZES.contains(&self.font_size) {
            let why = format!("{path}: font-size is {}; it can be 8 to 32.", self.font_size);
            return Err(Error::new(Code::Settings, why));
        }
        if !LOG_DAYS.contains(&self.keep_log_days) {
            let days = self.keep_log_days;
            let why = format!("{path}: keep-log-days is {days}; it can be 0, 7 or 30.");
            return Err(Error::new(Code::Settings, why));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_come_back_and_mistakes_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let host = crate::testing::host(dir.path());
        assert_eq!(Preferences::load(&host).unwrap(), Preferences::default());
        let mine = Preferences { theme: Theme::Dark, keep_log_days: 0, ..Preferences::default() };
        mine.save(&host).unwrap();
        assert_eq!(Preferences::load(&host).unwrap(), mine);
        let huge = Preferences { font_size: 99, ..mine.clone() };
        assert_eq!(huge.save(&host).unwrap_err().code(), Code::Settings);
        assert_eq!(Preferences::load(&host).unwrap(), mine);
        for bad in ["keep-log-days = 3\n", "theme = \"pink\"\n", "colour = 1\n"] {
            fs::write(Preferences::file(&host), bad).unwrap();
            assert_eq!(Preferences::load(&host).unwrap_err().code(), Code::Settings, "{bad}");
        }
    }
}
