//! What the helper may do, and giving up the rest.

use std::io;

use capctl::caps::{Cap, CapSet, CapState, bounding};

/// Links, routes and rules; and, for the resolver's child, becoming another user
/// and ending it.
fn service() -> CapSet {
    capctl::capset!(Cap::NET_ADMIN, Cap::SETUID, Cap::SETGID, Cap::KILL)
}

/// Gives up everything but [`service`] in the calling thread, for good: bounding
/// set, permitted, effective, inheritable. Programs that it starts have no more.
pub fn drop_to_service() -> io::Result<()> {
    let keep = service();
    for cap in Cap::iter() {
        if !keep.has(cap) {
            // A service manager may have taken CAP_SETPCAP away already; then the
            // bounding set is as small as it made it.
            let _ = bounding::drop(cap);
        }
    }
    let mut state = CapState::get_current().map_err(io::Error::from)?;
    state.permitted &= keep;
    state.effective = state.permitted;
    state.inheritable.clear();
    state.set_current().map_err(io::Error::from)?;
    capctl::prctl::set_no_new_privs().map_err(io::Error::from)
}

/// Gives up everything. For the resolver, after it became its own user. The bounding set
/// stays, as who is not root cannot make it smaller: with `no_new_privs` no program that
/// it starts could get anything out of it.
pub fn drop_all() -> io::Result<()> {
    CapState::empty().set_current().map_err(io::Error::from)?;
    capctl::prctl::set_no_new_privs().map_err(io::Error::from)?;
    // Nobody else with this uid may look into the process.
    capctl::prctl::set_dumpable(false).map_err(io::Error::from)
}
