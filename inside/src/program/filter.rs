//! Looks for the mark of rcc's filter of system calls.

use std::ffi::CString;
use std::io;

use rcc_inside::filter::{HELD_NAME, MARK_ERROR, MARK_FAMILY};
use rustix::net::{AddressFamily, SocketType, socket};

/// Whether the filter that holds this process is rcc's.
pub fn is_in_force() -> bool {
    let asked = socket(AddressFamily::from_raw(MARK_FAMILY), SocketType::STREAM, None);
    asked.is_err_and(|error| error.raw_os_error() == MARK_ERROR)
}

/// Finds the mark and says so where the host can read it, in the name of this process (proc_pid_comm(5)).
///
/// # Errors
/// When another filter, or none, is in force.
pub fn confirm() -> io::Result<()> {
    if !is_in_force() {
        return Err(io::Error::other("its mark is not there"));
    }
    Ok(rustix::thread::set_name(&CString::new(HELD_NAME)?)?)
}
