//! The reading of code on the interpreters of this machine.
use super::pymalloc::{FastPaths, SlowPath};
use super::*;

#[test]
fn probe_look() {
    for path in ["/root/.pyenv/versions/3.11.7/lib/libpython3.11.so.1.0", "/usr/bin/python3.11"]
        .map(std::path::PathBuf::from)
    {
        let elf = Elf::open(&path).unwrap();
        let t = std::time::Instant::now();
        let code = Code::of(&elf);
        let a = t.elapsed();
        let fast = FastPaths::of(&code);
        let b = t.elapsed();
        let slow = SlowPath::of(&code, &fast.allocs);
        eprintln!(
            "{path:?}: read {a:?} fast {:?} slow {:?}; stores {} allocs {} frees {} lost {:x?}",
            b - a,
            t.elapsed() - b,
            code.stores.len(),
            fast.allocs.len(),
            fast.frees.len(),
            fast.lost
        );
        let mut kinds = std::collections::BTreeMap::new();
        for alloc in &fast.allocs {
            *kinds
                .entry(match alloc.size {
                    pymalloc::Size::Asked(_) => "asked",
                    pymalloc::Size::Class(_) => "class",
                    pymalloc::Size::Pool => "pool",
                })
                .or_insert(0) += 1;
        }
        eprintln!(
            "{kinds:?} stepped {}+{}",
            fast.allocs.iter().filter(|a| !a.site.emulated).count(),
            fast.frees.iter().filter(|a| !a.emulated).count()
        );
        if let Some(slow) = slow {
            eprintln!("slow sizes {}", slow.calls.iter().filter(|c| c.size.is_some()).count());
            eprintln!(
                "slow {:x} calls {} unowned {:x?} matches {}",
                slow.function,
                slow.calls.len(),
                slow.calls.iter().filter(|c| c.owner.is_none()).map(|c| c.ip).collect::<Vec<_>>(),
                slow.matches(&fast.allocs)
            );
        }
        let inner: Vec<_> = fast
            .allocs
            .iter()
            .filter(|a| !code.jumps_into(a.site.store..a.site.ip + 1).is_empty())
            .map(|a| a.site.ip)
            .collect();
        eprintln!("entered in the middle {inner:x?}");
        let inner: Vec<_> = fast
            .frees
            .iter()
            .filter(|a| !code.jumps_into(a.store..a.ip + 1).is_empty())
            .map(|a| a.ip)
            .collect();
        eprintln!("frees entered in the middle {inner:x?}");
        let named = |t: u64| elf.plt_target(t).or_else(|| elf.name_at(t)).and_then(calls::Callee::named);
        let t = std::time::Instant::now();
        let calls = calls::Calls::of(&code, named, |p| elf.import_at(p).and_then(calls::Callee::named));
        eprintln!(
            "calls {} in {:?}, lost {:x?}, counter {:x?} passed on {} unemulated {} outcomes stepped {:x?}",
            calls.calls.len(),
            t.elapsed(),
            calls.lost,
            calls.counter,
            calls.calls.iter().filter(|c| c.passed_on).count(),
            calls.calls.iter().filter(|c| !c.emulated).count(),
            calls
                .calls
                .iter()
                .filter_map(|c| match c.kind {
                    calls::Kind::Call(o) if !o.emulated => Some(o.ip),
                    _ => None,
                })
                .collect::<Vec<_>>()
        );
        for role in [
            tracer_common::hook::Role::Malloc,
            tracer_common::hook::Role::Calloc,
            tracer_common::hook::Role::Realloc,
            tracer_common::hook::Role::Free,
        ] {
            eprintln!(
                "{role:?}: calls {} jumps {}",
                calls.calls.iter().filter(|c| c.role == role && c.kind != calls::Kind::Jump).count(),
                calls.calls.iter().filter(|c| c.role == role && c.kind == calls::Kind::Jump).count()
            );
        }
        let downs = code.tallies.iter().filter(|t| Some(t.word) == calls.counter && !t.up).count();
        let ups = code.tallies.iter().filter(|t| Some(t.word) == calls.counter && t.up).count();
        eprintln!("counter ups {ups} downs {downs}");
        for a in fast.allocs.iter().filter(|a| a.size == pymalloc::Size::Pool) {
            eprint!("{:x} ", a.site.ip);
        }
        eprintln!();
    }
}
