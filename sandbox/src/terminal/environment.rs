//! The environment of a program in a sandbox.

use crate::engine::HOME;
use crate::preferences::Preferences;
use crate::registries::Registries;
use crate::secrets::Handed;

/// Variables that make Claude Code quiet: it updates nothing by itself and asks
/// only the hosts that it needs.
const QUIET: &[(&str, &str)] =
    &[("DISABLE_AUTOUPDATER", "1"), ("CLAUDE_CODE_DISABLE_OFFICIAL_MARKETPLACE_AUTOINSTALL", "1")];

/// Telemetry, error reports and surveys, unless the person wants them.
const NO_TELEMETRY: (&str, &str) = ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1");

/// Claude Code's classic renderer, which draws in the terminal's scrollback.
const SCROLLBACK: (&str, &str) = ("CLAUDE_CODE_DISABLE_ALTERNATE_SCREEN", "1");

/// What the image set, what rcc sets, what the person handed in: later wins.
pub(crate) fn environment(
    image: &[String],
    user: &str,
    registries: &Registries,
    preferences: &Preferences,
    handed: &Handed,
) -> Vec<(String, String)> {
    let mut environment: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str| {
        environment.retain(|(existing, _)| existing != name);
        environment.push((name.to_string(), value.to_string()));
    };
    for (name, value) in image.iter().filter_map(|line| line.split_once('=')) {
        if !name.is_empty() && name != "container" {
            set(name, value);
        }
    }
    let path =
        image.iter().find_map(|line| line.strip_prefix("PATH=")).filter(|path| !path.is_empty());
    set("PATH", &format!("{HOME}/.local/bin:{}", path.unwrap_or(super::PATH)));
    set("HOME", HOME);
    set("USER", user);
    set("LOGNAME", user);
    set("LANG", "C.UTF-8");
    set("TERM", "xterm-256color");
    set("COLORTERM", "truecolor");
    for (name, value) in QUIET {
        set(name, value);
    }
    if !preferences.claude_telemetry {
        set(NO_TELEMETRY.0, NO_TELEMETRY.1);
    }
    if preferences.scrollback {
        set(SCROLLBACK.0, SCROLLBACK.1);
    }
    for (name, value) in registries.variables() {
        set(name, &value);
    }
    for (name, value) in handed.variables() {
        set(name, value);
    }
    environment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_images_path_stays_and_home_is_ours() {
        let image = ["PATH=/go/bin:/usr/bin".to_string(), "HOME=/root".into(), "GOROOT=/go".into()];
        let mut handed = Handed::default();
        handed.set("DISABLE_AUTOUPDATER", "0");
        let registries = Registries::default();
        let environment = environment(&image, "ann", &registries, &Preferences::default(), &handed);
        let get = |name: &str| {
            let mut values =
                environment.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
            let value = values.next();
            assert_eq!(values.next(), None, "{name} twice");
            value
        };
        assert_eq!(get("PATH"), Some("/home/agent/.local/bin:/go/bin:/usr/bin"));
        assert_eq!(get("HOME"), Some("/home/agent"));
        assert_eq!(get("GOROOT"), Some("/go"));
        assert_eq!(get("DISABLE_AUTOUPDATER"), Some("0"));
        assert_eq!(get(NO_TELEMETRY.0), Some("1"));
        assert_eq!(get(SCROLLBACK.0), None);
    }

    #[test]
    fn telemetry_and_scrollback_are_the_persons_choice() {
        let chosen =
            Preferences { claude_telemetry: true, scrollback: true, ..Preferences::default() };
        let environment =
            environment(&[], "ann", &Registries::default(), &chosen, &Handed::default());
        let has = |name: &str| environment.iter().any(|(key, _)| key == name);
        assert!(!has(NO_TELEMETRY.0) && has(SCROLLBACK.0));
    }
}
