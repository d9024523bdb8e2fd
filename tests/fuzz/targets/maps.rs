//! `/proc/PID/maps`: the target chooses the names in it.
//!
//! The parser is private to `tracer_user::target`, so its very file is compiled here, beside a stand-in for the process.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[expect(dead_code, reason = "only the parser is fuzzed; opening files is not")]
#[path = "../../../tracer-user/src/target/maps.rs"]
mod maps;

mod target {
    //! What `maps.rs` names of its neighbours.

    pub(crate) mod process {
        //! The stand-in.

        /// No process.
        pub(crate) struct Process;

        impl Process {
            /// No process's id.
            pub(crate) fn pid(&self) -> u32 {
                0
            }
        }

        /// `/proc/PID/NAME`.
        pub(crate) fn proc_path(pid: u32, name: &str) -> std::path::PathBuf {
            format!("/proc/{pid}/{name}").into()
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let found = maps::executable(&text);
    assert!(found.len() <= text.lines().count());
    for mapping in found {
        assert!(mapping.start < mapping.end && mapping.inode != 0, "{mapping:?}");
        assert!(mapping.path.is_absolute() && !mapping.file_name().contains('/'), "{mapping:?}");
    }
    for region in maps::private(&text) {
        assert!(region.start < region.end && region.inode != Some(0), "{region:?}");
    }
});
