//! What unit tests share.

use std::path::Path;

use crate::host::Host;

/// A made-up user whose home, configuration and so on lie apart from `dir`'s projects.
pub(crate) fn host(dir: &Path) -> Host {
    let own = dir.join("own");
    Host {
        home: own.join("home"),
        user: "ann".into(),
        uid: 1000,
        gid: 1000,
        config: own.join("config"),
        data: own.join("data"),
        state: own.join("state"),
        cache: own.join("cache"),
        runtime: own.join("run/rcc"),
        runtime_root: own.join("run"),
    }
}
