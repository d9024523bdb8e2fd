//! Joins what the kernel counted, what the heap makes of it, and the names, into the story that the reports tell.

use std::time::UNIX_EPOCH;

use tracer_common::loss::Loss;
use tracer_common::native::Mode;
use tracer_common::site::OTHER_SITES;

use crate::cli::plan::{Engine, Plan};
use crate::heap;
use crate::heap::balance::Verdict;
use crate::heap::books::{self, IntFacts, Older, SiteFacts, Sums};
use crate::heap::history::Histories;
use crate::heap::sample::Errors;
use crate::heap::snapshot::Books;
use crate::report::story::{
    Cost, Hooks, IntValue, Ints, LossCount, Sampling, Site, SiteErrors, Story, SumErrors, Target, Totals,
    TypeCount, Unsupported, Unwind, Watch,
};
use crate::report::units;
use crate::session::check::Check;
use crate::session::code::Code;
use crate::session::home;
use crate::session::names::{NamedStack, StackNames};
use crate::session::subject::Subject;
use crate::session::types;
use crate::session::watch;
use crate::session::{Armed, Closed};
use crate::target::process::hostname;

/// Sites that are told one by one, at most: with their names each takes some 20 KiB, here and in a JSON report. The rest is summed up in one.
const SITES_TOLD: usize = 5_000;

/// Types that have had a freelist in each version (`Include/internal/pycore_freelist_state.h` of 3.14, and before in each type's own file).
const FREELISTED: [&str; 4] = ["float", "tuple", "list", "dict"];

/// The least int that no freelist keeps: it has two digits (`PyLong_SHIFT`).
const INT_DIGIT: &str = "2^30";

/// The facts of each site, in the order that was asked for.
pub(super) fn facts(plan: &Plan, books: &Books, histories: &Histories, closed: &Closed) -> Vec<SiteFacts> {
    let facts = match plan.older {
        None => books::sites(books, histories),
        Some(age) => {
            let min_age_ns = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
            books::sites_older(books, histories, Older { now_ns: closed.now_ns, min_age_ns })
        }
    };
    in_order(plan, facts)
}

/// Those that are told, in the order that was asked for.
pub(super) fn in_order(plan: &Plan, mut facts: Vec<SiteFacts>) -> Vec<SiteFacts> {
    // A site that was entered but never kept a block (its blocks were refused) says nothing.
    facts.retain(|site| site.allocated_blocks > 0 || site.ints.is_some());
    if plan.older.is_some() {
        // A site whose blocks are all too young has nothing to say to who asked for the old ones.
        facts.retain(|site| site.live_blocks > 0);
    }
    for site in facts.iter_mut().filter(|site| site.id == OTHER_SITES) {
        // Many sites together look like none of them.
        site.verdict = heap::verdict::Verdict::Unknown;
    }
    plan.sort.sort(&mut facts);
    if facts.len() > SITES_TOLD {
        let rest = facts.split_off(SITES_TOLD - 1);
        facts.push(books::sum(OTHER_SITES, &rest));
        plan.sort.sort(&mut facts);
    }
    facts
}

/// What is not in the books.
pub(super) struct Frame<'a> {
    pub(super) plan: &'a Plan,
    pub(super) subject: &'a Subject,
    pub(super) armed: Armed,
    pub(super) closed: Closed,
    pub(super) hooks: &'a crate::probe::sites::HookPlan,
    pub(super) check: &'a Check,
    /// Milliseconds that the traps took to go in and out.
    pub(super) times_ms: (f64, f64),
    pub(super) cost: Cost,
    pub(super) names: &'a StackNames,
    pub(super) code: Option<&'a Code>,
}

/// What an engine has to tell besides its sites.
pub(super) struct Ledger {
    /// The engine's name.
    pub(super) engine: &'static str,
    pub(super) totals: Totals,
    pub(super) losses: Vec<LossCount>,
    pub(super) sampling: Option<Sampling>,
    pub(super) watch: Option<Watch>,
}

/// What the trace engine has to tell.
pub(super) fn ledger(frame: &Frame<'_>, books: &Books, facts: &[SiteFacts], types_unread: u64) -> Ledger {
    Ledger {
        engine: "trace",
        totals: totals(
            Sums {
                // The sites' own sums: with --older they hold less than was allocated and not freed.
                live_bytes: facts.iter().map(|site| site.live_bytes).sum(),
                live_blocks: facts.iter().map(|site| site.live_blocks).sum(),
                ..books::totals(books)
            },
            &frame.armed,
            &frame.closed,
            books.last.rss_bytes,
        ),
        losses: losses(&books.losses, frame.names.gone, types_unread),
        sampling: None,
        watch: None,
    }
}

/// The story.
pub(super) fn tell(
    frame: &Frame<'_>,
    ledger: Ledger,
    facts: Vec<SiteFacts>,
    types: Vec<Vec<TypeCount>>,
) -> Story {
    let sites: Vec<Site> =
        facts.into_iter().zip(types).map(|(facts, types)| site(facts, types, frame.names)).collect();
    let Frame { subject, armed, closed, .. } = frame;
    Story {
        target: Target {
            pid: subject.process.pid(),
            python: subject.python.version.to_string(),
            executable: subject.process.exe().display().to_string(),
            interpreter: Some(subject.python.image.path.display().to_string()),
            command: subject.process.command().join(" "),
            host: hostname(),
            home: home::of(&subject.whereabouts),
        },
        engine: ledger.engine.to_owned(),
        seconds: closed.seconds,
        started_unix_ms: armed.wall.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
        ended: closed.ended.words().to_owned(),
        hooks: told(frame),
        unwind: frame.code.map(|code| unwind(frame.plan, code)),
        cost: frame.cost.clone(),
        sampling: ledger.sampling,
        watch: ledger.watch,
        totals: ledger.totals,
        notes: notes(frame).into_iter().chain(freelists(frame, &sites)).collect(),
        processes: Vec::new(),
        losses: ledger.losses,
        sites,
    }
}

/// What was hooked, and what is known of it now.
fn told(frame: &Frame<'_>) -> Hooks {
    let Frame { plan, hooks, check, times_ms, .. } = frame;
    let verdict = check.verdict();
    let sentence = verdict.as_ref().map(|verdict| format!("; {}", verdict.sentence(units::count)));
    let watches = plan.engine == Engine::Watch;
    let domains = if watches { &watch::DOMAINS[..] } else { &plan.domains[..] };
    let checked = match verdict {
        Some(Verdict::Agrees(_)) => Some(true),
        Some(Verdict::Disagrees(_)) => Some(false),
        Some(Verdict::TooLittle(_)) | None => None,
    };
    Hooks {
        complete: hooks.completeness.complete && checked != Some(false),
        points: hooks.points.len() as u32,
        domains: domains.iter().map(|domain| domain.name().to_owned()).collect(),
        reason: format!("{}{}", hooks.completeness.reason, sentence.unwrap_or_default()),
        allocation_sites: hooks.counts.allocs,
        free_sites: hooks.counts.frees,
        checked,
        attach_ms: times_ms.0,
        detach_ms: times_ms.1,
    }
}

/// The tables by which C frames were walked.
fn unwind(plan: &Plan, code: &Code) -> Unwind {
    let (facts, build_ms) = code.facts();
    let unsupported = facts.lacks.iter().map(|(lack, tally)| Unsupported {
        reason: lack.to_string(),
        rows: tally.rows,
        code_bytes: tally.bytes,
    });
    let without = facts.without.iter().map(|(path, why)| (path.as_path(), why.as_str())).chain(code.failed());
    let without = without.map(|(path, why)| format!("{}: {why}", path.display()));
    Unwind {
        mode: if plan.native == Mode::Full { "full" } else { "leaf" }.to_owned(),
        files: facts.files as u64,
        rows: facts.rows as u64,
        rules: facts.rules as u64,
        table_bytes: facts.bytes as u64,
        build_ms,
        unsupported: unsupported.collect(),
        without: without.collect(),
    }
}

/// What the reader must know to read the figures right.
/// What is different about an interpreter without the GIL.
const FREE_THREADED: &str = "free-threaded: mimalloc serves the interpreter, so there are no pools and no census; counts were not checked against the heap's own, \
    and each thread has freelists of its own, from which an object keeps the stack of its block's first allocation";

fn notes(frame: &Frame<'_>) -> Vec<String> {
    let older = frame.plan.older.map(|age| {
        let age = age.as_secs_f64();
        format!("live counts only blocks older than {age} s: allocated = freed + live + what is younger")
    });
    let failed = frame.code.map_or(0, |code| code.failed().count());
    let failed = (failed > 0).then(|| {
        let files = units::plural(failed as u64, "mapped file");
        format!("C frames end, and have no names, in {files} that could not be opened; `without` in the JSON report says why")
    });
    let unproven = frame.subject.python.unproven().map(str::to_owned);
    let free_threaded = frame.subject.python.free_threaded.then(|| FREE_THREADED.to_owned());
    let changes = frame.check.changes().iter().cloned();
    unproven.into_iter().chain(free_threaded).chain(older).chain(failed).chain(changes).collect()
}

/// That blocks of some told sites may be kept by other lines, because CPython's freelists hand them on and nobody has followed that.
fn freelists(frame: &Frame<'_>, sites: &[Site]) -> Option<String> {
    let followed = frame.hooks.births.hooked > 0;
    let has_type = |names: &[&str]| {
        sites.iter().flat_map(|site| site.types.first()).any(|most| names.contains(&most.name.as_str()))
    };
    match frame.plan.engine {
        _ if followed => None,
        Engine::Watch => None,
        Engine::Sample { .. } => has_type(&FREELISTED).then(|| {
            "the births of objects cannot be seen in this build: floats, tuples, lists and dicts that come out of a freelist are told at the line that allocated their memory for another".to_owned()
        }),
        Engine::Trace => (frame.subject.layout.objects.int_freelist && has_type(&["int"])).then(|| {
            format!("ints below {INT_DIGIT} go from line to line through a freelist (CPython 3.14 and later), so the line told may have allocated what another one keeps; --ints follows them")
        }),
    }
}

/// The whole, of a target whose resident memory was last seen so.
pub(super) fn totals(sums: Sums, armed: &Armed, closed: &Closed, last_rss_bytes: u64) -> Totals {
    Totals {
        allocated_bytes: sums.allocated_bytes,
        allocated_blocks: sums.allocated_blocks,
        freed_bytes: sums.freed_bytes,
        freed_blocks: sums.freed_blocks,
        live_bytes: sums.live_bytes,
        live_blocks: sums.live_blocks,
        rss_start_bytes: armed.rss_bytes.unwrap_or(0),
        // A target that has ended was last seen at the last tick.
        rss_end_bytes: closed.rss_bytes.unwrap_or(last_rss_bytes),
        errors: None,
    }
}

/// Every row of the table: the kernel's counts, and those of the two rows that only user space can know.
pub(super) fn losses(counted: &[(Loss, u64)], code_gone: u64, types_unread: u64) -> Vec<LossCount> {
    let count = |loss: Loss, kernel: u64| match loss {
        Loss::CodeGone => code_gone,
        Loss::TypeUnread => types_unread,
        _ => kernel,
    };
    let row = |&(loss, kernel): &(Loss, u64)| LossCount {
        code: loss.code().to_owned(),
        count: count(loss, kernel),
        meaning: loss.meaning().to_owned(),
    };
    counted.iter().map(row).collect()
}

fn site(facts: SiteFacts, types: Vec<TypeCount>, names: &StackNames) -> Site {
    let NamedStack { frames, note } = names.of(facts.id);
    Site {
        id: facts.id,
        domain: facts.domain.map_or("unknown", |domain| domain.name()).to_owned(),
        live_bytes: facts.live_bytes,
        live_blocks: facts.live_blocks,
        live_given_bytes: facts.live_given_bytes,
        allocated_bytes: facts.allocated_bytes,
        allocated_blocks: facts.allocated_blocks,
        freed_bytes: facts.freed_bytes,
        freed_blocks: facts.freed_blocks,
        growth_bytes_per_second: facts.growth_bytes_per_second,
        verdict: facts.verdict,
        sizes: facts.sizes,
        lifetimes_ns: facts.lifetimes_ns,
        types: types::scaled(types, facts.live_blocks, facts.sampled.is_some()),
        samples: facts.sampled.map(|sampled| sampled.births),
        survivors: facts.sampled.map(|sampled| sampled.survivors),
        growth_at_least: facts.sampled.map(|sampled| sampled.growth_at_least),
        evidence: facts.sampled.and_then(|sampled| sampled.evidence),
        errors: facts.sampled.map(|sampled| errors(&sampled.errors)),
        ints: facts.ints.map(ints),
        processes: Vec::new(),
        stack: frames,
        stack_note: note,
    }
}

fn errors(errors: &Errors) -> SiteErrors {
    SiteErrors { sums: sum_errors(errors), growth_bytes_per_second: errors.growth_bytes_per_second }
}

/// The errors of sums, as they are told.
pub(super) fn sum_errors(errors: &Errors) -> SumErrors {
    SumErrors {
        allocated_bytes: errors.allocated_bytes,
        allocated_blocks: errors.allocated_blocks,
        freed_bytes: errors.freed_bytes,
        freed_blocks: errors.freed_blocks,
        live_bytes: errors.live_bytes,
        live_blocks: errors.live_blocks,
    }
}

fn ints(facts: IntFacts) -> Ints {
    let values = facts.values.into_iter().map(|(value, calls)| IntValue { value, calls }).collect();
    Ints { calls: facts.calls, small: facts.small, values }
}
