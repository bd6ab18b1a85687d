//! Errors in the one form that command line and window show: what could not
//! be done, why, what to do, and a stable code.

use std::fmt;
use std::path::Path;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident => $wire:literal, $title:literal, $hint:literal;)*) => {
        /// What failed. The text form (`RCC-E…`) is stable and documented in
        /// docs/troubleshooting; programs may compare it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// Every code, for documents and tests.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// The stable text form, `RCC-E` and three digits.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $wire,)* }
            }

            /// What could not be done, as a sentence.
            pub fn title(self) -> &'static str {
                match self { $(Code::$name => $title,)* }
            }

            /// What the person can do, when the error itself knows nothing better.
            pub fn hint(self) -> &'static str {
                match self { $(Code::$name => $hint,)* }
            }
        }
    };
}

codes! {
    /// A file or folder of rcc's own could not be read or written.
    Io => "RCC-E001", "A file could not be read or written.",
        "Check that the disk is not full and that the folder belongs to you.";
    /// The person cancelled.
    Cancelled => "RCC-E002", "Cancelled.", "What was begun has been undone.";
    /// rcc was started by root.
    RootUser => "RCC-E003", "rcc does not run as root.",
        "Start it as the ordinary user whose sandboxes these are.";
    /// A variable of the session is missing.
    Environment => "RCC-E004", "The login session is incomplete.",
        "Log in again, or set the variable.";
    /// An argument or a setting cannot be understood.
    Invalid => "RCC-E005", "The value cannot be used.", "Correct it and try again.";

    /// The folder does not exist or cannot be entered.
    FolderMissing => "RCC-E101", "The folder cannot be opened.",
        "Check its name, or choose another folder.";
    /// The folder is one that must not be opened.
    FolderRefused => "RCC-E102", "This folder cannot be opened in a sandbox.",
        "Choose a project folder inside your home.";
    /// A guarded path cannot be guarded.
    Guard => "RCC-E103", "The project's guarded files cannot be protected.",
        "Remove or rename what the message names, then try again.";
    /// What was there before a session is not known, or cannot be put back.
    Review => "RCC-E105", "The review of the project's files cannot be done.",
        "Look again with `rcc review`.";
    /// A settings file of rcc's cannot be read.
    Settings => "RCC-E104", "A settings file cannot be used.",
        "Correct the file; nothing of it is in force until then.";

    /// Podman is not installed.
    EngineMissing => "RCC-E201", "Podman is not installed. rcc runs each sandbox with it.",
        "Install the packages podman and uidmap with your package manager.";
    /// Nobody answers at the socket.
    EngineUnreachable => "RCC-E202", "The container engine does not answer.",
        "Run `podman info` to see what it says.";
    /// Too old.
    EngineTooOld => "RCC-E203", "The container engine is too old.",
        "Install Podman 4.3 or newer.";
    /// No subordinate ids.
    NoSubordinateIds => "RCC-E204", "Your user has no range of subordinate ids.",
        "Ask the administrator to add one: `sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER`, then run `podman system migrate`.";
    /// The engine refused.
    Engine => "RCC-E205", "The container engine refused a step.",
        "`rcc doctor` shows what is missing.";
    /// The engine runs as root.
    EngineRootful => "RCC-E206", "The container engine runs as root.",
        "Use your own rootless Podman; rcc does not use a root engine.";
    /// cgroups in a mode the runtime refuses.
    Cgroups => "RCC-E207", "The container runtime cannot use this computer's control groups.",
        "Boot with unified control groups (`systemd.unified_cgroup_hierarchy=1`).";

    /// No such image.
    ImageMissing => "RCC-E301", "The image is not there.",
        "Check its name, or pull it with `podman pull`.";
    /// The image could not be built.
    ImageBuild => "RCC-E302", "The image could not be built.",
        "Check the network and the package sources of this computer, then try again.";
    /// mmdebstrap is missing.
    ImageTool => "RCC-E303", "mmdebstrap is not installed. rcc builds the sandbox image with it.",
        "Install the package mmdebstrap, or name an image of your own with --image.";

    /// Claude Code could not be found or fetched.
    ClaudeFetch => "RCC-E401", "Claude Code could not be fetched.",
        "Check the network and try again; a version that is already here stays.";
    /// The hash does not match.
    ClaudeHash => "RCC-E402", "The download does not match its published fingerprint and was deleted.",
        "Try again; if it happens twice, ask whoever runs your package registry.";
    /// No Claude for this machine.
    ClaudePlatform => "RCC-E403", "There is no Claude Code for this kind of computer.",
        "rcc needs a 64-bit x86 or ARM computer.";

    /// The helper does not answer.
    HelperMissing => "RCC-E501", "The firewall service does not answer. Sandboxes can start offline only.",
        "Start offline with --offline, or run `rcc doctor`.";
    /// The helper said no.
    HelperRefused => "RCC-E502", "The firewall service refused.",
        "Start offline with --offline, or ask the administrator.";
    /// The sandbox's end of the link could not be set up.
    Link => "RCC-E503", "The sandbox could not be connected.",
        "Start offline with --offline, and run `rcc doctor`.";
    /// The sandbox is offline.
    Offline => "RCC-E504", "This sandbox is offline.",
        "Connect it with `rcc net on`.";
    /// A host rule is malformed or was not taken.
    Rule => "RCC-E505", "The host cannot be allowed.",
        "Write HOST or HOST:PORT, for instance example.org:443.";
    /// Somebody else changed a list meanwhile.
    Changed => "RCC-E506", "The list was changed elsewhere meanwhile.",
        "Look at it again; nothing of yours was written.";

    /// The container could not be started.
    SandboxStart => "RCC-E601", "The sandbox did not start.",
        "`rcc doctor` checks what it needs.";
    /// No such session.
    NoSession => "RCC-E602", "There is no running sandbox for this.",
        "`rcc ls` lists those that run; `rcc claude` starts one.";
    /// The program inside does not answer.
    Inside => "RCC-E603", "The sandbox does not answer.",
        "Stop it with `rcc stop` and start it again; the project and the conversation are kept.";
    /// A terminal could not be started.
    Terminal => "RCC-E604", "The terminal could not be started.",
        "Look whether the program exists in the image.";
    /// The static program is not installed.
    InsideMissing => "RCC-E605", "A part of rcc is missing.",
        "Install rcc again; the file named below belongs to it.";
}

/// An error in the one form. `Display` is title and body in one line.
#[derive(Debug, thiserror::Error)]
pub struct Error {
    code: Code,
    title: Option<String>,
    body: String,
    hint: Option<String>,
    detail: Option<String>,
}

impl Error {
    /// `body` says why, in one sentence, naming what it was tried on.
    pub fn new(code: Code, body: impl Into<String>) -> Self {
        Self { code, title: None, body: body.into(), hint: None, detail: None }
    }

    /// Replaces the title of the code by one that names the thing.
    #[must_use]
    pub fn title_is(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// Replaces the hint of the code by a better one.
    #[must_use]
    pub fn hint_is(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds what a bug report needs and a person rarely reads: a log's tail,
    /// a command, an address.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// A failed call on a path.
    pub fn io(what: &str, path: &Path, error: impl fmt::Display) -> Self {
        Self::new(Code::Io, format!("Could not {what} {}: {error}.", path.display()))
    }

    /// The person said stop.
    pub fn cancelled() -> Self {
        Self::new(Code::Cancelled, "Stopped on your request.")
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// What could not be done.
    pub fn title(&self) -> &str {
        self.title.as_deref().unwrap_or_else(|| self.code.title())
    }

    /// Why.
    pub fn body(&self) -> &str {
        &self.body
    }

    /// What to do.
    pub fn hint(&self) -> &str {
        self.hint.as_deref().unwrap_or_else(|| self.code.hint())
    }

    /// What is folded away at first; may be many lines.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.title(), self.body)
    }
}

/// What every fallible call of this crate answers.
pub type Result<T> = std::result::Result<T, Error>;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn codes_are_distinct_and_every_text_is_a_sentence() {
        let mut seen = HashSet::new();
        for code in Code::ALL {
            assert!(seen.insert(code.as_str()), "{} twice", code.as_str());
            let digits = code.as_str().strip_prefix("RCC-E").unwrap();
            assert!(digits.len() == 3 && digits.chars().all(|c| c.is_ascii_digit()));
            assert!(code.title().ends_with('.'), "{code:?}");
            assert!(code.hint().ends_with('.'), "{code:?}");
        }
    }
}
