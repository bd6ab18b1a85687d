//! The clock that grants end by: it counts while the computer sleeps, and nobody sets it.
//! The runtime's timers and the timeouts of the kernel's sets stand still in a sleep.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId as Timer, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::{ClockId, clock_gettime};
use tokio::io::unix::AsyncFd;

/// Shorter ones are none: the two clocks are not read at the same moment.
const SHORTEST_SLEEP: Duration = Duration::from_secs(1);

/// Seconds since the computer started, also while it slept.
pub fn now() -> u64 {
    read(ClockId::CLOCK_BOOTTIME).as_secs()
}

/// Waits until [`now`] says `end`; when the computer sleeps beyond it, until it wakes up.
pub async fn until(end: u64) -> io::Result<()> {
    // A time of 0 would never come (timerfd_create(2)).
    let end = i64::try_from(end).unwrap_or(i64::MAX).max(1);
    let timer = timer(Timer::CLOCK_BOOTTIME, end, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
    timer.readable().await?.retain_ready();
    Ok(())
}

/// Tells when the computer has slept.
pub struct Sleeps {
    /// The kernel tells by it of every jump of the time of day, and a sleep ends with one.
    jumps: AsyncFd<OwnedFd>,
    slept: Duration,
}

impl Sleeps {
    /// Of the sleeps that come.
    pub fn listen() -> io::Result<Self> {
        let flags =
            TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
        Ok(Self { jumps: timer(Timer::CLOCK_REALTIME, i64::MAX, flags)?, slept: slept() })
    }

    /// Ends after the next one.
    pub async fn next(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.jumps.readable().await?;
            match nix::unistd::read(self.jumps.get_ref(), &mut [0; 8]) {
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Ok(_) | Err(Errno::ECANCELED | Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            if is_longer(&mut self.slept, slept()) {
                return Ok(());
            }
        }
    }
}

/// How long the computer slept since it started.
fn slept() -> Duration {
    read(ClockId::CLOCK_BOOTTIME).saturating_sub(read(ClockId::CLOCK_MONOTONIC))
}

fn is_longer(known: &mut Duration, slept: Duration) -> bool {
    let longer = slept >= *known + SHORTEST_SLEEP;
    if longer {
        *known = slept;
    }
    longer
}

fn read(clock: ClockId) -> Duration {
    clock_gettime(clock).map_or(Duration::ZERO, Duration::from)
}

fn timer(clock: Timer, end: i64, flags: TimerSetTimeFlags) -> io::Result<AsyncFd<OwnedFd>> {
    let timer = TimerFd::new(clock, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
    timer.set(Expiration::OneShot(TimeSpec::new(end, 0)), flags)?;
    crate::fd::watch(timer.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_waited_for_is_over_then_and_not_before() {
        let end = now() + 1;
        until(end).await.unwrap();
        assert!((end..=end + 1).contains(&now()), "{end} {}", now());
        // What was over long ago, and the start of the computer itself.
        until(end - 1).await.unwrap();
        until(0).await.unwrap();
    }

    #[test]
    fn a_sleep_is_told_once_and_a_clock_that_is_set_is_none() {
        let mut known = Duration::from_secs(7);
        assert!(!is_longer(&mut known, Duration::from_millis(7_200)));
        assert!(is_longer(&mut known, Duration::from_secs(3_600)));
        assert!(!is_longer(&mut known, Duration::from_millis(3_600_010)));
        assert!(is_longer(&mut known, Duration::from_secs(3_602)));
    }

    #[tokio::test]
    async fn nobody_is_told_of_a_sleep_that_was_none() {
        let mut sleeps = Sleeps::listen().unwrap();
        let told = tokio::time::timeout(Duration::from_millis(200), sleeps.next()).await;
        assert!(told.is_err());
    }
}
