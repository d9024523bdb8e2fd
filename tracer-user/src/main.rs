//! The program: parse, plan, run, and turn the outcome into an exit code.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use tracer_user::cli;

fn main() -> ExitCode {
    let flags = match cli::flags::Flags::try_parse() {
        Ok(flags) => flags,
        Err(message) => {
            let code = u8::try_from(message.exit_code()).unwrap_or(2);
            let _ = message.print();
            return ExitCode::from(code);
        }
    };
    match cli::run(flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "unshed: {error}");
            ExitCode::from(error.kind().exit_code())
        }
    }
}
