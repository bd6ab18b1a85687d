//! The mark of rcc's filter of system calls (`packaging/seccomp/sandbox.json`): a call that no other filter and no
//! kernel answers so. Whether *a* filter is in force the kernel says; whether it is this one only the mark does.

/// The family of sockets that is asked for. Linux has none with so high a number.
pub const MARK_FAMILY: u16 = 29_283;

/// What the filter answers (errno). The kernel's own numbers end far below.
pub const MARK_ERROR: i32 = 1_990;

/// What the first process of a sandbox calls itself once it found the mark; until then its name is that of its file.
pub const HELD_NAME: &str = "rcc-held";
