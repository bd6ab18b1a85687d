//! libFuzzer around the target that `RCC_FUZZ_TARGET` names.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use rcc_fuzz::{TARGETS, Target};

fn target() -> &'static Target {
    static TARGET: OnceLock<&Target> = OnceLock::new();
    TARGET.get_or_init(|| {
        let name = std::env::var("RCC_FUZZ_TARGET").unwrap_or_default();
        TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| {
            eprintln!("RCC_FUZZ_TARGET names no target");
            std::process::exit(2)
        })
    })
}

fuzz_target!(|bytes: &[u8]| (target().run)(bytes));
