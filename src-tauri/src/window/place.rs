//! Size and place of the window, kept between runs:
//! `$XDG_STATE_HOME/rcc/window.json`. Only a convenience.

use std::fs;

use rcc_sandbox::host::write_atomically;
use serde::{Deserialize, Serialize};
use tauri::{PhysicalPosition, PhysicalSize, WebviewWindow, Window};

use crate::app::App;

/// In the screen's pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    x: i32,
    y: i32,
    width: u32,
    height: u32,
    maximized: bool,
}

/// Puts the window where it was, if that is still on a screen.
pub fn restore(app: &App, window: &WebviewWindow) {
    let Ok(host) = app.host() else { return };
    let Some(place) = fs::read(host.state.join("window.json"))
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Place>(&bytes).ok())
    else {
        return;
    };
    let screens: Vec<_> = window
        .available_monitors()
        .unwrap_or_default()
        .iter()
        .map(|screen| (*screen.position(), *screen.size()))
        .collect();
    // Each is a wish; a desktop may place windows itself.
    if let Some(place) = place.fitting(&screens) {
        let _ = window.set_size(PhysicalSize::new(place.width, place.height));
        let _ = window.set_position(PhysicalPosition::new(place.x, place.y));
        if place.maximized {
            let _ = window.maximize();
        }
    }
}

/// Keeps where it is.
pub fn remember(app: &App, window: &Window) {
    let Ok(host) = app.host() else { return };
    let (Ok(position), Ok(size)) = (window.outer_position(), window.inner_size()) else { return };
    let place = Place {
        x: position.x,
        y: position.y,
        width: size.width,
        height: size.height,
        maximized: window.is_maximized().unwrap_or(false),
    };
    let Ok(json) = serde_json::to_vec(&place) else { return };
    // Without it the next window opens where windows open.
    let _ = write_atomically(&host.state.join("window.json"), &json);
}

impl Place {
    /// The place, made no larger than its screen; none when its middle is on no
    /// screen any more.
    fn fitting(self, screens: &[(PhysicalPosition<i32>, PhysicalSize<u32>)]) -> Option<Self> {
        let signed = |length: u32| i32::try_from(length).unwrap_or(i32::MAX);
        let middle = (
            self.x.saturating_add(signed(self.width) / 2),
            self.y.saturating_add(signed(self.height) / 2),
        );
        let (_, size) = screens.iter().find(|(at, size)| {
            (at.x..at.x.saturating_add(signed(size.width))).contains(&middle.0)
                && (at.y..at.y.saturating_add(signed(size.height))).contains(&middle.1)
        })?;
        Some(Self {
            width: self.width.min(size.width),
            height: self.height.min(size.height),
            ..self
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_on_a_screen_that_is_gone_is_not_put_there() {
        let screens = [(PhysicalPosition::new(0, 0), PhysicalSize::new(1280, 900))];
        let place = |x, width| Place { x, y: 10, width, height: 700, maximized: false };
        assert_eq!(place(50, 1000).fitting(&screens), Some(place(50, 1000)));
        assert_eq!(place(-400, 2000).fitting(&screens), Some(place(-400, 1280)));
        assert_eq!(place(3000, 1000).fitting(&screens), None);
        assert_eq!(place(50, 1000).fitting(&[]), None);
        assert_eq!(place(i32::MAX, u32::MAX).fitting(&screens), None);
    }
}
