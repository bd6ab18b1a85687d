/// Every command. The build makes a permission of each.
pub const NAMES: &[&str] = &[
    "hello",
    "list_projects",
    "look_again",
    "show_title",
    "choose_folder",
    "forget_project",
    "open_sandbox",
    "cancel_opening",
    "stop_session",
    "allow_host",
    "terminal_write",
    "terminal_resize",
    "terminal_credit",
    "terminal_close",
    "copy_text",
    "open_link",
];
