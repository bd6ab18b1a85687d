//! What a terminal's program is doing.

use serde::{Deserialize, Serialize};

/// What a terminal's program is doing, as far as it says so itself. A hint, never a basis for a wall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The program was started and has not said anything yet.
    Starting,
    /// It works on a turn.
    Working,
    /// It waits for an answer or a permission.
    NeedsYou,
    /// It waits for the next prompt.
    Done,
    /// It waits for the next prompt while its own tasks go on.
    Background,
    /// A turn or the program itself ended with an error.
    Trouble,
    /// The program ended.
    Ended,
}
