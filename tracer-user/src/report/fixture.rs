//! One made-up recording that has everything a report can say, for the tests of all outputs.

use super::story::{
    Cgroup, Container, Cost, Home, Hooks, IntValue, Ints, LossCount, Site, Story, Target, Totals, TypeCount,
    Unsupported, Unwind,
};
use crate::heap::spread::Spread;
use crate::heap::verdict::Verdict;
use crate::symbol::{Frame, FrameKind, FramePlace};
use tracer_common::loss::Loss;

mod sampled;

pub(super) use sampled::sampled;

pub(super) fn story() -> Story {
    let sites = vec![leak(), cache(), churn(), small_ints(), quiet()];
    Story {
        target: Target {
            pid: 4711,
            python: "3.11.7".to_owned(),
            executable: "/opt/python/bin/python3.11".to_owned(),
            interpreter: Some("/opt/python/lib/libpython3.11.so.1.0".to_owned()),
            command: "python3 /app/app.py --port 8000".to_owned(),
            host: "web-3".to_owned(),
            home: home(),
        },
        engine: "trace".to_owned(),
        seconds: 10.0,
        started_unix_ms: 1_763_719_200_000,
        ended: "the time was up".to_owned(),
        hooks: Hooks {
            complete: true,
            points: 26,
            domains: ["object", "mem", "raw"].map(str::to_owned).to_vec(),
            reason: "shared, allocator called: 3 + 1 sites for allocations and frees, a slow path for each; checked: 1,203 allocations − 1,100 frees = 103 blocks; the heap's own counters grew by 103".to_owned(),
            allocation_sites: 3,
            free_sites: 1,
            checked: Some(true),
            attach_ms: 7.5,
            detach_ms: 60.25,
        },
        unwind: Some(unwind()),
        cost: Cost {
            hits: 3_660_000,
            target_cpu_fraction: 0.309,
            ns_per_hit: 844.5,
            kernel_bytes: 129_000_000,
        },
        totals: Totals {
            allocated_bytes: sites.iter().map(|site| site.allocated_bytes).sum(),
            allocated_blocks: sites.iter().map(|site| site.allocated_blocks).sum(),
            freed_bytes: sites.iter().map(|site| site.freed_bytes).sum(),
            freed_blocks: sites.iter().map(|site| site.freed_blocks).sum(),
            live_bytes: sites.iter().map(|site| site.live_bytes).sum(),
            live_blocks: sites.iter().map(|site| site.live_blocks).sum(),
            rss_start_bytes: 41_000_000,
            rss_end_bytes: 79_500_000,
            errors: None,
        },
        sampling: None,
        watch: None,
        notes: Vec::new(),
        processes: Vec::new(),
        losses: Loss::ALL
            .iter()
            .map(|loss| LossCount {
                code: loss.code().to_owned(),
                count: if *loss == Loss::UnknownFree { 200_000 } else { 0 },
                meaning: loss.meaning().to_owned(),
            })
            .collect(),
        sites,
    }
}

fn home() -> Home {
    let path = "/system.slice/docker-8f2c1d7e5b3a4c6d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f.scope";
    let id = &path["/system.slice/docker-".len()..path.len() - ".scope".len()];
    Home {
        namespace_pids: vec![4711, 7],
        namespaces: ["mount", "pid"].map(str::to_owned).to_vec(),
        root: None,
        cgroup: Some(path.to_owned()),
        cgroup_shared: false,
        cgroups: vec![Cgroup { controllers: String::new(), path: path.to_owned() }],
        container: Some(Container { runtime: "docker".to_owned(), id: id.to_owned() }),
    }
}

fn unwind() -> Unwind {
    Unwind {
        mode: "leaf".to_owned(),
        files: 12,
        rows: 171_003,
        rules: 512,
        table_bytes: 712_704,
        build_ms: 41.5,
        unsupported: vec![Unsupported {
            reason: "the CFA is an expression".to_owned(),
            rows: 3,
            code_bytes: 96,
        }],
        without: Vec::new(),
    }
}

pub(super) fn python(function: &str, file: &str, line: u32) -> Frame {
    Frame {
        kind: FrameKind::Python,
        function: function.to_owned(),
        file: Some(file.to_owned()),
        line: Some(line),
        module: None,
        inlined: false,
        place: None,
        unnamed: None,
    }
}

pub(super) fn native(function: &str, file: &str, line: u32, module: &str) -> Frame {
    Frame { kind: FrameKind::Native, module: Some(module.to_owned()), ..python(function, file, line) }
}

/// A frame of a stripped library.
pub(super) fn nameless() -> Frame {
    let build_id = "6b1c0f2e4d5a69788796a5b4c3d2e1f00f1e2d3c";
    Frame {
        file: None,
        line: None,
        place: Some(FramePlace {
            path: "/opt/app/lib/libfast.so".to_owned(),
            offset: 0x2c3f,
            vaddr: 0x3c3f,
            build_id: Some(build_id.to_owned()),
        }),
        unnamed: Some(format!("no symbols in libfast.so (build id {build_id})")),
        ..native("<libfast.so+0x3c3f>", "", 0, "libfast.so")
    }
}

fn types(types: &[(&str, u64)]) -> Vec<TypeCount> {
    types.iter().map(|&(name, blocks)| TypeCount { name: name.to_owned(), blocks }).collect()
}

/// A leaked new reference: one million ints.
fn leak() -> Site {
    let one = Spread { count: 1_000_000, min: 28, p50: 28, p90: 28, p99: 28, max: 28 };
    Site {
        id: 0,
        evidence: None,
        domain: "object".to_owned(),
        live_bytes: 28_000_000,
        live_blocks: 1_000_000,
        live_given_bytes: 32_000_000,
        allocated_bytes: 28_000_000,
        allocated_blocks: 1_000_000,
        freed_bytes: 0,
        freed_blocks: 0,
        growth_bytes_per_second: 2_800_000.0,
        verdict: Verdict::Leak,
        sizes: Some(one),
        lifetimes_ns: None,
        types: types(&[("int", 1_000_000)]),
        samples: None,
        survivors: None,
        growth_at_least: None,
        errors: None,
        ints: Some(Ints {
            calls: 1_000_000,
            small: 0,
            values: vec![IntValue { value: 1000, calls: 1_000_000 }],
        }),
        processes: Vec::new(),
        stack: vec![
            native("leak_new_reference", "cPyRefs.c", 149, "cPyRefs.so"),
            python("handler", "/app/app.py", 12),
            python(
                "Router.dispatch",
                "/opt/python/lib/python3.11/site-packages/framework/routing/dispatch.py",
                310,
            ),
            python("<module>", "/app/app.py", 44),
        ],
        stack_note: None,
    }
}

/// A cache of strings with some turnover, on a stack that was cut.
fn cache() -> Site {
    Site {
        live_bytes: 4_194_304,
        live_blocks: 9_000,
        live_given_bytes: 4_300_000,
        allocated_bytes: 4_300_000,
        allocated_blocks: 9_200,
        freed_bytes: 105_696,
        freed_blocks: 200,
        growth_bytes_per_second: -310.0,
        verdict: Verdict::Cache,
        sizes: Some(Spread { count: 9_000, min: 49, p50: 415, p90: 700, p99: 1_022, max: 70_000 }),
        lifetimes_ns: Some(Spread {
            count: 200,
            min: 4_194_304,
            p50: 5_242_879,
            p90: 10_485_759,
            p99: 900_000_000,
            max: 1_073_741_824,
        }),
        types: types(&[
            ("str", 3_000),
            ("bytes", 900),
            ("dict", 60),
            ("tuple", 30),
            ("list", 7),
            ("set", 2),
            ("Key", 1),
        ]),
        ints: None,
        processes: Vec::new(),
        stack: vec![
            native("PyUnicode_New", "Objects/unicodeobject.c", 1451, "/opt/python/lib/libpython3.11.so.1.0"),
            nameless(),
            nameless(),
            Frame { line: None, ..python("Cache.__setitem__.<locals>.render", "/app/cache.py", 0) },
            python("handler", "/app/app.py", 19),
        ],
        stack_note: Some("deeper than --max-depth".to_owned()),
        ..leak()
    }
}

/// Buffers that come and go in threads without Python frames.
fn churn() -> Site {
    Site {
        domain: "raw".to_owned(),
        live_bytes: 65_536,
        live_blocks: 1,
        live_given_bytes: 65_544,
        allocated_bytes: 65_536 * 400_000,
        allocated_blocks: 400_000,
        freed_bytes: 65_536 * 399_999,
        freed_blocks: 399_999,
        growth_bytes_per_second: 0.0,
        verdict: Verdict::Churn,
        sizes: Some(Spread { count: 1, min: 65_536, p50: 65_536, p90: 65_536, p99: 65_536, max: 65_536 }),
        lifetimes_ns: Some(Spread { count: 399_999, min: 0, p50: 512, p90: 1_279, p99: 2_559, max: 12_288 }),
        types: Vec::new(),
        ints: None,
        processes: Vec::new(),
        stack: Vec::new(),
        ..leak()
    }
}

/// References of cached ints: nothing is allocated.
fn small_ints() -> Site {
    Site {
        live_bytes: 0,
        live_blocks: 0,
        live_given_bytes: 0,
        allocated_bytes: 0,
        allocated_blocks: 0,
        growth_bytes_per_second: 0.0,
        verdict: Verdict::Unknown,
        sizes: None,
        types: Vec::new(),
        ints: Some(Ints {
            calls: 50_000,
            small: 50_000,
            values: vec![IntValue { value: -1, calls: 50_000 }],
        }),
        processes: Vec::new(),
        stack: vec![python("poll", "/app/poll.py", 7)],
        ..leak()
    }
}

/// A site whose every block was freed.
fn quiet() -> Site {
    Site {
        allocated_bytes: 6_400,
        allocated_blocks: 100,
        freed_bytes: 6_400,
        freed_blocks: 100,
        verdict: Verdict::Churn,
        ints: None,
        processes: Vec::new(),
        stack: vec![python("parse", "/app/parse.py", 3)],
        ..small_ints()
    }
}

/// A leak in an extension, with every C frame from the allocator to `_start`: an inlined helper, a callback from C, the interpreter's own start.
pub(super) fn mixed() -> Site {
    let source = |path: &str| format!("/tmp/python-build.20260509073455.222/Python-3.11.7/{path}");
    let own =
        |function: &str, path: &str, line| native(function, &source(path), line, "libpython3.11.so.1.0");
    let extension = |function: &str, path: &str, line| {
        native(function, path, line, "engine.cpython-311-x86_64-linux-gnu.so")
    };
    Site {
        processes: Vec::new(),
        stack: vec![
            own("PyLong_FromLong", "Objects/longobject.c", 212),
            Frame { inlined: true, ..extension("new_count", "/build/engine/src/counts.h", 14) },
            extension("engine_tick", "/build/engine/src/engine.c", 88),
            own("cfunction_vectorcall_O", "Objects/methodobject.c", 514),
            own("PyObject_Vectorcall", "Objects/call.c", 299),
            python("Service.tick.<locals>.<lambda>", "/app/service.py", 31),
            own("_PyFunction_Vectorcall", "Objects/call.c", 393),
            own("list_sort_impl", "Objects/listobject.c", 2298),
            own("method_vectorcall_FASTCALL_KEYWORDS", "Objects/descrobject.c", 364),
            python("Service.tick", "/app/service.py", 30),
            python("main", "/app/service.py", 58),
            python("<module>", "/app/service.py", 61),
            own("_PyEval_Vector", "Python/ceval.c", 6434),
            own("PyEval_EvalCode", "Python/ceval.c", 1148),
            own("run_eval_code_obj", "Python/pythonrun.c", 1741),
            own("run_mod", "Python/pythonrun.c", 1762),
            own("pymain_run_file_obj", "Modules/main.c", 360),
            Frame { inlined: true, ..own("pymain_run_python", "Modules/main.c", 601) },
            own("Py_RunMain", "Modules/main.c", 680),
            own("Py_BytesMain", "Modules/main.c", 734),
            Frame { file: None, line: None, ..native("__libc_start_call_main", "", 0, "libc.so.6") },
            Frame { file: None, line: None, ..native("_start", "", 0, "python3.11") },
        ],
        ints: None,
        ..leak()
    }
}
