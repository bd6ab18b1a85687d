//! cli
fn main() { rcc_sandbox::link::run_if_asked(); }
