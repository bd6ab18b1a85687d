//! Error codes. Codes cross the bus and reach the window; texts decide nothing.

use thiserror::Error;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident => $wire:literal,)*) => {
        /// What went wrong, as the last part of the D-Bus error name
        /// (`dev.rcc.Helper1.Error.<code>`).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// Every code, for tests and documents.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// The stable name on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $wire,)* }
            }
        }
    };
}

codes! {
    /// polkit said no, or did not answer in time.
    NotAuthorized => "NotAuthorized",
    /// The caller is not a person, or not in the host's network namespace.
    CallerRefused => "CallerRefused",
    /// No attachment of the caller has this id.
    NoSuchAttachment => "NoSuchAttachment",
    /// The descriptor is not what Attach needs; the text says which check failed.
    BadDescriptor => "BadDescriptor",
    /// The namespace has an attachment already.
    InUse => "InUse",
    /// An argument is outside its documented range.
    InvalidArgument => "InvalidArgument",
    /// The caller has as many attachments, rules or calls as one user may have.
    LimitReached => "LimitReached",
    /// The administrator's file changed since the version that was named.
    VersionConflict => "VersionConflict",
    /// The document is not a valid policy; the text names line and column.
    InvalidPolicy => "InvalidPolicy",
    /// The gate is not there or cannot be made; nothing is connected.
    GateUnavailable => "GateUnavailable",
    /// The kernel or the system refused a step; nothing was left half done.
    Failed => "Failed",
}

impl Code {
    /// The code of a wire name; `None` for a name that this release does not know.
    pub fn from_wire(name: &str) -> Option<Code> {
        Code::ALL.iter().copied().find(|code| code.as_str() == name)
    }
}

const ERROR_PREFIX: &str = "dev.rcc.Helper1.Error.";

/// A refusal by the helper, or the reason why it could not be asked.
#[derive(Debug, Clone, Error)]
pub enum HelperError {
    /// The helper answered with one of its codes.
    #[error("{message}")]
    Refused {
        /// Which one.
        code: Code,
        /// A sentence for the person.
        message: String,
    },
    /// Nobody answers at the name: not installed, not activatable, or it crashed.
    #[error("the firewall service does not answer: {0}")]
    Unreachable(String),
    /// The bus or the transport failed.
    #[error("the system bus failed: {0}")]
    Bus(String),
}

impl HelperError {
    /// A refusal with a code and a sentence.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self::Refused { code, message: message.into() }
    }

    /// The code, when the helper itself answered.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Unreachable(_) | Self::Bus(_) => None,
        }
    }

    /// The D-Bus error name of this error.
    pub fn wire_name(&self) -> String {
        let code = self.code().unwrap_or(Code::Failed);
        format!("{ERROR_PREFIX}{}", code.as_str())
    }
}

impl From<zbus::Error> for HelperError {
    fn from(error: zbus::Error) -> Self {
        if let zbus::Error::MethodError(name, text, _) = &error {
            let text = text.clone().unwrap_or_else(|| name.to_string());
            if let Some(code) = name.strip_prefix(ERROR_PREFIX).and_then(Code::from_wire) {
                return Self::Refused { code, message: text };
            }
            // What dbus-daemon and dbus-broker answer when activation fails.
            let unreachable =
                ["ServiceUnknown", "NameHasNoOwner", "NoReply", "TimedOut", "Timeout"];
            if unreachable.iter().any(|end| name.ends_with(end)) || name.contains(".Spawn.") {
                return Self::Unreachable(text);
            }
            return Self::Bus(text);
        }
        Self::Bus(error.to_string())
    }
}

impl From<zbus::fdo::Error> for HelperError {
    fn from(error: zbus::fdo::Error) -> Self {
        zbus::Error::from(error).into()
    }
}

/// How the helper's side sends an error: the name carries the code.
impl zbus::DBusError for HelperError {
    fn create_reply(
        &self,
        call: &zbus::message::Header<'_>,
    ) -> zbus::Result<zbus::message::Message> {
        let name = zbus::names::ErrorName::try_from(self.wire_name())?;
        zbus::message::Message::error(call, name)?.build(&(self.to_string(),))
    }

    fn name(&self) -> zbus::names::ErrorName<'_> {
        // The name is built from constants, so it always parses.
        zbus::names::ErrorName::try_from(self.wire_name()).unwrap_or_else(|_| {
            zbus::names::ErrorName::from_static_str_unchecked("dev.rcc.Helper1.Error.Failed")
        })
    }

    fn description(&self) -> Option<&str> {
        match self {
            Self::Refused { message, .. } => Some(message),
            Self::Unreachable(text) | Self::Bus(text) => Some(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_wire() {
        for code in Code::ALL {
            assert_eq!(Code::from_wire(code.as_str()), Some(*code));
        }
        assert_eq!(Code::from_wire("Nonsense"), None);
    }
}
