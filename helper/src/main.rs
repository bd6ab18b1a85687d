//! See the library.

fn main() -> std::process::ExitCode {
    rcc_helper::main()
}
