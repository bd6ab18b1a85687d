//! Descriptors that were open when the program started.

/// Marks all descriptors but the standard three, so that no program started later inherits what an engine left open.
#[allow(unsafe_code)]
pub fn close_on_exec() {
    // SAFETY: with CLOSE_RANGE_CLOEXEC, close_range(2) closes nothing: it sets one flag, and takes no pointers.
    let _unknown_to_kernels_before_5_11 = unsafe {
        nix::libc::syscall(
            nix::libc::SYS_close_range,
            3_u32,
            u32::MAX,
            nix::libc::CLOSE_RANGE_CLOEXEC,
        )
    };
}
