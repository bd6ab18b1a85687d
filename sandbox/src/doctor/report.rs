//! What a bug report needs, without what is the person's own.

use std::fmt::Write;
use std::fs;

use super::Line;
use crate::host::Host;

/// Longest line of the report, in characters.
const WIDTH: usize = 400;

/// The lines, this computer's release and kernel; names of the person and of the
/// computer, and the home folder, are taken out.
pub fn report(host: &Host, lines: &[Line]) -> String {
    let mut text = format!("rcc {}\n", env!("CARGO_PKG_VERSION"));
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let _ = writeln!(
        text,
        "system {}, kernel {}",
        name.unwrap_or("unknown").trim_matches('"'),
        kernel.trim()
    );
    let desktop = std::env::var("XDG_CURRENT_DESKTOP").unwrap_or_else(|_| "none".into());
    let session = std::env::var("XDG_SESSION_TYPE").unwrap_or_else(|_| "unknown".into());
    let _ = writeln!(text, "desktop {desktop}, session {session}\n");
    for line in lines {
        let _ = writeln!(text, "{:<4}  {}: {}", line.health.word(), line.name, line.text);
    }
    let computer = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let home = host.home.to_string_lossy();
    hide(&text, &[(&home, "~"), (&host.user, "USER"), (computer.trim(), "COMPUTER")])
}

fn hide(text: &str, names: &[(&str, &str)]) -> String {
    let mut hidden: String =
        text.lines().map(|line| crate::display::line(line, WIDTH) + "\n").collect();
    for (name, other) in names {
        // A name of one or two letters is part of too many words.
        if name.len() > 2 {
            hidden = hidden.replace(name, other);
        }
    }
    hidden
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_persons_own_names_are_taken_out() {
        let text = "ok  claude: at /home/annabel/.local on laptop7 for annabel\n";
        let names = [("/home/annabel", "~"), ("annabel", "USER"), ("laptop7", "COMPUTER")];
        assert_eq!(hide(text, &names), "ok  claude: at ~/.local on COMPUTER for USER\n");
        assert!(!hide("\u{1b}[31mred\n", &[]).contains('\u{1b}'));
    }
}
