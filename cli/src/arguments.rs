//! What can be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// What rcc ends with, for whoever called it.
pub mod exit {
    /// A command that looks found what should be looked at.
    pub const FOUND: u8 = 1;
    /// Wrong usage, as clap ends with it.
    pub const USAGE: u8 = 2;
    /// `verify` was not done in time, and found nothing open until then.
    pub const UNFINISHED: u8 = 3;
    /// rcc's own failure, as with other programs that start programs.
    pub const FAILED: u8 = 125;
    /// Cancelled by the person.
    pub const STOPPED: u8 = 130;

    /// All of them, for the help and the manual.
    pub const ALL: [(u8, &str); 6] = [
        (0, "done, or a terminal was left that goes on"),
        (
            FOUND,
            "doctor found something bad, verify an open wall, review a change, update --check something newer",
        ),
        (USAGE, "wrong usage"),
        (UNFINISHED, "verify was not done in time, and found nothing open until then"),
        (FAILED, "an error of rcc's, with a code RCC-E…"),
        (STOPPED, "cancelled, by Ctrl-C or at a question"),
    ];

    /// Of programs that rcc starts.
    pub const PROGRAMS: &str = "claude, shell, run and attach end with the program's own, or with \
        128 and the number of the signal that ended it";

    /// What a command that looks ends with.
    pub fn found(something: bool) -> u8 {
        if something { FOUND } else { 0 }
    }
}

fn after_help() -> String {
    let codes = exit::ALL.map(|(code, why)| format!("  {code:<4} {why}")).join("\n");
    format!(
        "Detach from a terminal with Ctrl-] followed by d; it goes on, `rcc attach` shows it again.\n\n\
         Exit codes: {}. Else:\n{codes}",
        exit::PROGRAMS
    )
}

/// Run Claude Code in a sandbox it cannot leave.
#[derive(Debug, Parser)]
#[command(name = "rcc", version, disable_help_subcommand = true, after_help = after_help())]
pub struct Arguments {
    /// Print what lists as JSON, and errors too
    #[arg(long, global = true)]
    pub json: bool,
    /// The project's folder, instead of the current one
    // Without a value it is the reach of `allow` and `deny`.
    #[arg(long, global = true, value_name = "PATH", num_args = 0..=1)]
    pub project: Option<Option<PathBuf>>,
    #[command(subcommand)]
    pub command: Command,
}

/// How a sandbox is opened.
#[derive(Debug, Clone, Default, Args)]
pub struct Opening {
    /// Start without any network when the sandbox does not run yet
    #[arg(long)]
    pub offline: bool,
    /// dev, small, or a name that the engine knows
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// Ask nothing
    #[arg(long)]
    pub yes: bool,
}

/// How far a rule reaches; without any, or with `--project`: the project.
#[derive(Debug, Clone, Default, Args)]
#[group(multiple = false)]
pub struct Reach {
    /// Only the running sandbox, until it ends
    #[arg(long)]
    pub session: bool,
    /// All projects of yours
    #[arg(long)]
    pub all: bool,
    /// Only the running sandbox, for so long: 90s, 10m, 2h
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    pub duration: Option<Duration>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Prepare a project: check the folder, write its settings, build the image, fetch Claude Code
    Init(Opening),
    /// Open the sandbox and start Claude Code in it; again: another terminal in the same sandbox
    Claude {
        #[command(flatten)]
        opening: Opening,
        /// Let Claude ask before it acts, this time
        #[arg(long)]
        ask: bool,
        /// Arguments for Claude Code, for instance -p "…"
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        arguments: Vec<String>,
    },
    /// Open the sandbox and start a shell in it
    Shell(Opening),
    /// Open the sandbox and run a program in it; its exit code is passed on
    Run {
        #[command(flatten)]
        opening: Opening,
        /// Program and arguments
        #[arg(last = true, required = true, value_name = "CMD")]
        command: Vec<String>,
    },
    /// List running sandboxes and their terminals
    Ls,
    /// Show a terminal that runs: the number from `rcc ls`, or the newest
    Attach {
        /// Its number
        terminal: Option<u32>,
    },
    /// End the sandbox; project, conversation and image stay
    Stop {
        /// The folder as `rcc ls` names it, also when it is gone; else the one where you are
        folder: Option<PathBuf>,
        /// Every sandbox of yours
        #[arg(long, conflicts_with = "folder")]
        all: bool,
    },
    /// Allow a host: HOST, HOST:PORT or HOST:PORT/udp; port 443 if none is given
    Allow {
        /// The host
        host: String,
        #[command(flatten)]
        reach: Reach,
        /// The name may have a private address
        #[arg(long)]
        private: bool,
    },
    /// Take a host back; connections to it are cut
    Deny {
        /// The host
        host: String,
        #[command(flatten)]
        reach: Reach,
    },
    /// Show what was blocked
    Log {
        /// Go on showing
        #[arg(short, long)]
        follow: bool,
    },
    /// Switch the sandbox's network off or on
    Net {
        /// off or on
        #[arg(value_enum)]
        state: OnOff,
    },
    /// Check what rcc needs on this computer (`verify` tries the walls of a sandbox)
    Doctor {
        /// Show a report for a bug tracker, without your names, and write it to a file if you agree
        #[arg(long)]
        report: bool,
    },
    /// Have the firewall start at boot, or let sandboxes through another firewall of this computer (asks for an administrator's password)
    Setup {
        /// What to do
        #[arg(required = true, value_name = "STEP", value_parser = ["boot", "firewalld", "ufw", "docker"])]
        steps: Vec<String>,
    },
    /// Look at a list of allowed hosts before it is put in force
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Show what changed of the files that this computer would run: hooks of Git's, settings of editors, builds
    Review {
        #[command(subcommand)]
        command: Option<ReviewCommand>,
        /// Show each change line by line
        #[arg(long)]
        diff: bool,
    },
    /// List the layers of projects' own packages that the engine keeps, and remove them
    Layers {
        #[command(subcommand)]
        command: Option<LayersCommand>,
    },
    /// Fetch the newest Claude Code, and build the images again from today's packages; what runs keeps what it has
    Update {
        /// One of them, instead of both
        #[arg(value_enum)]
        what: Option<UpdateWhat>,
        /// Only look: exit code 1 when Claude Code has a newer version, or an image is a month old
        #[arg(long)]
        check: bool,
    },
    /// Remove what rcc keeps of yours: sandboxes, conversations, images, Claude Code, settings; projects stay
    Uninstall {
        /// Everything of yours (what the computer has of rcc goes with its package)
        #[arg(long, required = true)]
        mine: bool,
        /// Ask nothing
        #[arg(long)]
        yes: bool,
    },
    /// Try the ways out of the running sandbox, and say which walls hold (`doctor` looks at this computer)
    Verify,
}

/// What is done with a list.
#[derive(Debug, Clone, Subcommand)]
pub enum PolicyCommand {
    /// Read it as the firewall service would: the first error with line and column, or what it allows
    Check {
        /// The file; without one, this computer's
        file: Option<PathBuf>,
    },
}

/// What is done with layers.
#[derive(Debug, Clone, Subcommand)]
pub enum LayersCommand {
    /// Remove layers; a project that wants one again has it built again
    Remove {
        /// Names as `rcc layers` shows them
        #[arg(required_unless_present = "unused", value_name = "NAME")]
        which: Vec<String>,
        /// Every layer that no project uses
        #[arg(long, conflicts_with = "which")]
        unused: bool,
        /// Ask nothing
        #[arg(long)]
        yes: bool,
    },
}

/// What is done with a change.
#[derive(Debug, Clone, Subcommand)]
pub enum ReviewCommand {
    /// It is to be so: what is there now counts from now on
    Keep {
        /// Ids as `rcc review` shows them
        #[arg(required_unless_present = "all", value_name = "ID")]
        which: Vec<String>,
        /// Everything, while no sandbox runs
        #[arg(long, conflicts_with = "which")]
        all: bool,
    },
    /// Put back what was there before; a new file is removed
    PutBack {
        /// Ids as `rcc review` shows them
        #[arg(required_unless_present = "all", value_name = "ID")]
        which: Vec<String>,
        /// Everything that can be put back
        #[arg(long, conflicts_with = "which")]
        all: bool,
    },
    /// Undo what was put back last
    Undo,
}

/// What can be brought up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum UpdateWhat {
    /// Claude Code.
    Claude,
    /// The images.
    Image,
}

/// Off or on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OnOff {
    /// Cut everything.
    Off,
    /// Let the allowed hosts through.
    On,
}

fn time(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.len() - text.chars().last().map_or(0, char::len_utf8));
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("write a number and s, m or h, for instance 10m".into()),
    };
    let number: u64 =
        number.parse().map_err(|_| "write a number and s, m or h, for instance 10m".to_string())?;
    match number.checked_mul(factor) {
        Some(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
        _ => Err("it can be 1s to 24h".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(words: &[&str]) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from([&["rcc"], words].concat())
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn claudes_own_arguments_pass_through() {
        let parsed = parse(&["claude", "--offline", "-p", "hi", "--model", "x"]).unwrap();
        let Command::Claude { opening, arguments, .. } = parsed.command else {
            panic!("not claude")
        };
        assert!(opening.offline);
        assert_eq!(arguments, ["-p", "hi", "--model", "x"]);
        let parsed = parse(&["claude", "--version"]).unwrap();
        assert!(
            matches!(parsed.command, Command::Claude { arguments, .. } if arguments == ["--version"])
        );
        let parsed = parse(&["run", "--", "ls", "--json"]).unwrap();
        assert!(!parsed.json);
        let Command::Run { command, .. } = parsed.command else { panic!("not run") };
        assert_eq!(command, ["ls", "--json"]);
        assert!(parse(&["run"]).is_err());
    }

    #[test]
    fn one_reach_at_a_time() {
        assert!(parse(&["allow", "a.example", "--session", "--all"]).is_err());
        assert_eq!(parse(&["allow", "a.example", "--project"]).unwrap().project, Some(None));
        assert_eq!(parse(&["--project", "x", "ls"]).unwrap().project, Some(Some("x".into())));
        let Command::Allow { reach, .. } =
            parse(&["allow", "a.example", "--for", "10m"]).unwrap().command
        else {
            panic!("not allow")
        };
        assert_eq!(reach.duration, Some(Duration::from_secs(600)));
        for bad in ["", "10", "x", "0s", "25h", "ä", "99999999999999999999h", "5ä"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
