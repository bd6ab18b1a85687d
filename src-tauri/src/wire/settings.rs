//! What of settings crosses to the page.

use rcc_sandbox::preferences::{Contrast, Preferences, Theme};
use serde::{Deserialize, Serialize};

/// What a person chose for all projects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct WindowSettings {
    pub theme: ThemeWord,
    pub contrast: ContrastWord,
    /// CSS pixels, 8 to 32.
    pub font_size: u8,
    pub programs_may_copy: bool,
    /// Claude draws in the scrollback; counts for programs that are started then.
    pub scrollback: bool,
    pub notify_needs_you: bool,
    pub notify_blocked: bool,
    /// 0, 7 or 30.
    pub keep_log_days: u16,
    pub claude_telemetry: bool,
    /// Closing the window leaves rcc in the tray, where there is one.
    pub close_hides: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(rename = "Theme"))]
#[serde(rename_all = "camelCase")]
pub enum ThemeWord {
    System,
    Light,
    Dark,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(rename = "Contrast"))]
#[serde(rename_all = "camelCase")]
pub enum ContrastWord {
    System,
    High,
}

impl From<Preferences> for WindowSettings {
    fn from(chosen: Preferences) -> Self {
        Self {
            theme: match chosen.theme {
                Theme::System => ThemeWord::System,
                Theme::Light => ThemeWord::Light,
                Theme::Dark => ThemeWord::Dark,
            },
            contrast: match chosen.contrast {
                Contrast::System => ContrastWord::System,
                Contrast::High => ContrastWord::High,
            },
            font_size: chosen.font_size,
            programs_may_copy: chosen.programs_may_copy,
            scrollback: chosen.scrollback,
            notify_needs_you: chosen.notify_needs_you,
            notify_blocked: chosen.notify_blocked,
            keep_log_days: chosen.keep_log_days,
            claude_telemetry: chosen.claude_telemetry,
            close_hides: chosen.close_hides,
        }
    }
}

impl From<WindowSettings> for Preferences {
    fn from(chosen: WindowSettings) -> Self {
        Self {
            theme: match chosen.theme {
                ThemeWord::System => Theme::System,
                ThemeWord::Light => Theme::Light,
                ThemeWord::Dark => Theme::Dark,
            },
            contrast: match chosen.contrast {
                ContrastWord::System => Contrast::System,
                ContrastWord::High => Contrast::High,
            },
            font_size: chosen.font_size,
            programs_may_copy: chosen.programs_may_copy,
            scrollback: chosen.scrollback,
            notify_needs_you: chosen.notify_needs_you,
            notify_blocked: chosen.notify_blocked,
            keep_log_days: chosen.keep_log_days,
            claude_telemetry: chosen.claude_telemetry,
            close_hides: chosen.close_hides,
        }
    }
}
