//! Where a report and the table of processes say that a target lives: its container, its cgroups in both versions, its ids outside and inside.

use std::fs;
use std::path::PathBuf;

use unshed_tests::harness::{Target, Unshed};
use unshed_tests::interpreters::{any_supported, debian};

use super::room::{self, ALL, Place};
use super::{PROGRAM, json};

const ID: &str = "8f2c1d7e5b3a4c6d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f";

/// A cgroup of our own, removed when dropped.
struct Group {
    folder: PathBuf,
    /// Its path in its hierarchy.
    path: String,
}

impl Group {
    /// Made in the first mounted hierarchy of a type, `cgroup` or `cgroup2`.
    fn new(kind: &str, name: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("there are mounts");
        let of_kind = |line: &&str| line.split(' ').nth(2) == Some(kind);
        let mounted = mounts.lines().find(of_kind).and_then(|line| line.split(' ').nth(1));
        let mounted = mounted.unwrap_or_else(|| panic!("no {kind} is mounted: mount -t {kind} …"));
        let path = format!("/unshed-tests-{}/{name}", std::process::id());
        let folder = PathBuf::from(format!("{mounted}{path}"));
        fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        Self { folder, path }
    }

    fn adopt(&self, target: &Target) {
        fs::write(self.folder.join("cgroup.procs"), target.pid().to_string()).expect("it can be moved");
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // One that is not empty is left to whoever looks after the failed test.
        let ours = |folder: &&std::path::Path| folder.to_string_lossy().contains("unshed-tests-");
        self.folder.ancestors().take_while(ours).for_each(|folder| drop(fs::remove_dir(folder)));
    }
}

/// As Docker does it with systemd (version 2) and without (version 1).
#[test]
fn a_container_is_told_by_its_cgroup_of_either_version() {
    for (kind, name) in [("cgroup2", format!("docker-{ID}.scope")), ("cgroup", format!("docker/{ID}"))] {
        let group = Group::new(kind, &name);
        let mut target = room::start(debian(), &room::CONTAINER, PROGRAM);
        group.adopt(&target);
        let recording = Unshed::record(target.pid(), &[]);
        drop(target.go());
        let output = recording.stop();
        let told = &json(&output)["target"];
        assert_eq!(told["cgroup"], *group.path, "{kind}: {told}");
        assert_eq!((&told["container"]["runtime"], &told["container"]["id"]), (&"docker".into(), &ID.into()));
        let rows = told["cgroups"].as_array().expect("a list");
        let is_it = |row: &&serde_json::Value| row["path"] == *group.path;
        let row = rows.iter().find(is_it).unwrap_or_else(|| panic!("{told}"));
        assert_eq!(row["controllers"] == "", kind == "cgroup2", "{row}");
        assert!(output.stdout.contains(&format!("docker container {}", &ID[..12])), "{}", output.stdout);

        let table = Unshed::run(&["ps"]);
        let pid = target.pid().to_string();
        let line = table.stdout.lines().find(|line| line.split_whitespace().next() == Some(&pid));
        let line = line.unwrap_or_else(|| panic!("{pid} is not listed:\n{}", table.stdout));
        assert!(line.contains(&format!("docker:{}", &ID[..12])), "{line}");
        drop(target.go());
        let mut target = target;
        target.kill();
        drop(target);
        // The shell of its namespace ends with it.
        drop(group);
    }
}

#[test]
fn the_ids_outside_and_inside_and_the_namespaces_are_told() {
    let place = Place::new(debian());
    let target = place.start(&ALL, PROGRAM, &[]);
    let output = Unshed::record(target.pid(), &[]).stop();
    let told = &json(&output)["target"];
    assert_eq!(
        (&told["pid"], &told["namespace_pids"]),
        (&target.pid().into(), &vec![target.pid(), 1].into())
    );
    let namespaces = told["namespaces"].as_array().expect("a list");
    for name in ["mount", "pid", "user"] {
        assert!(namespaces.contains(&name.into()), "{told}");
    }
    assert_eq!(told["root"], serde_json::Value::Null);
    assert!(output.stdout.contains("pid 1 inside"), "{}", output.stdout);
}

#[test]
fn who_lives_where_the_tool_does_is_not_told_so() {
    let target = Target::spawn(any_supported(), PROGRAM, &[]);
    let output = Unshed::record(target.pid(), &[]).stop();
    let told = &json(&output)["target"];
    assert_eq!(told["namespace_pids"], serde_json::json!([target.pid()]));
    assert_eq!((&told["namespaces"], &told["cgroup_shared"]), (&serde_json::json!([]), &true.into()));
    assert!(!output.stdout.contains("lives in"), "{}", output.stdout);
}
