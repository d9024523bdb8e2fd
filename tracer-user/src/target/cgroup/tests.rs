//! The forms that real hosts write, and nonsense.

use proptest::prelude::*;

use super::*;

const ID: &str = "8f2c1d7e5b3a4c6d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f";

/// The telling path, and the container's runtime.
fn told(text: &str) -> (Option<String>, Option<String>) {
    let cgroups = parse(&text.replace("ID", ID));
    let container = container(&cgroups);
    assert!(container.iter().all(|container| container.id == ID), "{container:?}");
    let path = telling(&cgroups).map(|cgroup| cgroup.path.replace(ID, "ID"));
    (path, container.map(|container| container.runtime))
}

fn some(path: &str, runtime: &str) -> (Option<String>, Option<String>) {
    (Some(path.to_owned()), Some(runtime.to_owned()))
}

#[test]
fn each_hierarchy_is_a_row() {
    let text = "9:name=systemd:/\n4:memory:/a:b/c\n3:cpu,cpuacct:/d\n0::/e\n";
    let row = |controllers: &str, path: &str| Cgroup { controllers: controllers.into(), path: path.into() };
    let expected =
        [row("name=systemd", "/"), row("memory", "/a:b/c"), row("cpu,cpuacct", "/d"), row("", "/e")];
    assert_eq!(parse(text), expected);
    assert_eq!(telling(&expected), Some(&expected[3]));
    assert_eq!(telling(&expected[..3]), Some(&expected[1]));
    assert_eq!(telling(&expected[..1]), None);
}

#[test]
fn services_and_sessions_are_no_containers() {
    assert_eq!(told("0::/"), (None, None));
    let service = "/system.slice/gunicorn.service";
    assert_eq!(told(&format!("0::{service}")), (Some(service.to_owned()), None));
    let session = "/user.slice/user-1000.slice/session-3.scope";
    let hybrid = format!("12:pids:{session}\n1:name=systemd:{session}\n0::{session}\n");
    assert_eq!(told(&hybrid), (Some(session.to_owned()), None));
}

#[test]
fn docker_tells_its_id() {
    assert_eq!(told("0::/system.slice/docker-ID.scope"), some("/system.slice/docker-ID.scope", "docker"));
    let v1 = "11:memory:/docker/ID\n2:cpu,cpuacct:/docker/ID\n1:name=systemd:/docker/ID\n";
    assert_eq!(told(v1), some("/docker/ID", "docker"));
    // On a host with both versions, the container is in those of version 1 alone.
    let hybrid = "4:memory:/docker/ID\n0::/system.slice/containerd.service\n";
    assert_eq!(told(hybrid), some("/docker/ID", "docker"));
    let rootless = "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-ID.scope";
    assert_eq!(told(&format!("0::{rootless}")), some(rootless, "docker"));
}

#[test]
fn kubernetes_tells_pod_and_container() {
    let pod = "kubepods-burstable-pod3f1e9c1a_7d11_4d61_8e0c_0c7f1f6a2b11.slice";
    let systemd = format!("/kubepods.slice/kubepods-burstable.slice/{pod}/cri-containerd-ID.scope");
    assert_eq!(told(&format!("0::{systemd}")), some(&systemd, "cri-containerd"));
    let crio = format!("/kubepods.slice/{pod}/crio-ID.scope/container");
    assert_eq!(told(&format!("0::{crio}")), some(&crio, "crio"));
    let cgroupfs = "/kubepods/besteffort/pod3f1e9c1a-7d11-4d61-8e0c-0c7f1f6a2b11/ID";
    assert_eq!(told(&format!("5:memory:{cgroupfs}")), some(cgroupfs, "kubepods"));
    let colons = format!("/system.slice/containerd.service/{pod}:cri-containerd:ID");
    assert_eq!(told(&format!("1:name=systemd:{colons}")), some(&colons, "cri-containerd"));
    // The pod itself, and other things with long numbers.
    let only_pod = "/kubepods/pod3f1e9c1a7d114d618e0c0c7f1f6a2b11";
    assert_eq!(told(&format!("0::{only_pod}")), (Some(only_pod.to_owned()), None));
    let job = "/jobs/05b8e06c20801e0f67d0b5ea4e9d5fb9";
    assert_eq!(told(&format!("4:memory:{job}")), (Some(job.to_owned()), None));
}

#[test]
fn podman_is_the_container_and_not_its_monitor() {
    let path = "/machine.slice/libpod-ID.scope/container";
    assert_eq!(told(&format!("0::{path}")), some(path, "libpod"));
    let monitor = "/machine.slice/libpod-conmon-ID.scope";
    assert_eq!(told(&format!("0::{monitor}")), (Some(monitor.to_owned()), None));
}

#[test]
fn seen_from_another_cgroup_namespace() {
    assert_eq!(told("0::/../docker-ID.scope"), some("/../docker-ID.scope", "docker"));
}

#[test]
fn nonsense_is_nothing() {
    let long = format!("0::/{}", "x".repeat(PATH));
    for text in ["", "\n\n", "0", "0:", "0::", "0::relative", "x::/a", ":::", "-1:memory:/", &long] {
        assert_eq!(parse(text), [], "{}", &text[..text.len().min(40)]);
    }
    assert_eq!(parse(&"1:a:/b\n".repeat(10_000)).len(), LINES);
}

proptest! {
    #[test]
    fn whatever_is_written_ends(text in r"(?s)[0-9:/a-f.\-\n\PC]{0,400}") {
        let cgroups = parse(&text);
        for cgroup in &cgroups {
            prop_assert!(cgroup.path.starts_with('/') && cgroup.path.len() <= PATH);
        }
        if let Some(container) = container(&cgroups) {
            prop_assert!(telling(&cgroups).unwrap().path.contains(&container.id));
        }
    }
}
