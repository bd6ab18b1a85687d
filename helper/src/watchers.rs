//! Who is told of events: bus names that asked, each for its own uid.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rcc_dbus::{Code, HelperError};
use zbus::names::BusName;

use crate::auth::Caller;

/// Names that one user may register: windows and followers of a log.
const MOST_PER_USER: usize = 16;

/// See the module.
pub struct Watchers {
    names: Mutex<HashMap<String, u32>>,
    active: Mutex<Instant>,
    calls: AtomicUsize,
}

/// A call that is under way; a person may be typing a password for minutes.
pub struct Call<'a>(&'a Watchers);

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.note_activity();
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Default for Watchers {
    fn default() -> Self {
        Self {
            names: Mutex::default(),
            active: Mutex::new(Instant::now()),
            calls: AtomicUsize::new(0),
        }
    }
}

impl Watchers {
    /// Registers the caller.
    pub fn add(&self, caller: Caller) -> Result<(), HelperError> {
        let full =
            || HelperError::new(Code::LimitReached, "You watch the firewall too often already.");
        let mut names = self.names.lock().map_err(|_| full())?;
        let own = names.values().filter(|uid| **uid == caller.uid).count();
        if own >= MOST_PER_USER && !names.contains_key(&caller.name) {
            return Err(full());
        }
        names.insert(caller.name, caller.uid);
        Ok(())
    }

    /// Forgets a name that left the bus, or asked for it.
    pub fn remove(&self, name: &str) {
        if let Ok(mut names) = self.names.lock() {
            names.remove(name);
        }
    }

    /// The names to tell: those of `uid`, or all.
    pub fn of(&self, uid: Option<u32>) -> Vec<BusName<'static>> {
        let Ok(names) = self.names.lock() else { return Vec::new() };
        names
            .iter()
            .filter(|(_, own)| uid.is_none_or(|uid| uid == **own))
            .filter_map(|(name, _)| BusName::try_from(name.clone()).ok())
            .collect()
    }

    /// Somebody calls, for as long as what this answers is kept.
    pub fn call(&self) -> Call<'_> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Call(self)
    }

    /// Somebody needs the service.
    pub fn note_activity(&self) {
        if let Ok(mut active) = self.active.lock() {
            *active = Instant::now();
        }
    }

    /// For how long nobody has called or watched.
    pub fn idle(&self) -> Duration {
        let watched = self.names.lock().is_ok_and(|names| !names.is_empty());
        if watched || self.calls.load(Ordering::Relaxed) > 0 {
            self.note_activity();
        }
        self.active.lock().map_or(Duration::ZERO, |active| active.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h4_a_call_under_way_keeps_the_service() {
        let watchers = Watchers::default();
        let earlier = || Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
        let second = Duration::from_secs(1);
        *watchers.active.lock().unwrap() = earlier();
        assert!(watchers.idle() >= second);
        let call = watchers.call();
        assert!(watchers.idle() < second);
        *watchers.active.lock().unwrap() = earlier();
        drop(call);
        assert!(watchers.idle() < second, "its end counts");
        *watchers.active.lock().unwrap() = earlier();
        assert!(watchers.idle() >= second);
    }
}
