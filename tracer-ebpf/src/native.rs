//! The C frames of a hit: the tables that the loader has made, the walk, and what is said of its end.

use aya_ebpf::EbpfContext;
use tracer_common::event::{EventHead, EventKind};
use tracer_common::limits::{CHUNK_ROWS, NATIVE_TURNS};
use tracer_common::loss::Loss;
use tracer_common::native::{Mode, NativeEnd, Stage, Wish};
use tracer_common::unwind::{Module, Page, Row, Rule, Tables};

use crate::birth::{context, hand_over, settle};
use crate::gate;
use crate::loss::lose;
use crate::maps::{MODULES, PAGES, PROCESS, RING, ROWS, RULES, VIEW};
use crate::user_memory::HitMemory;

/// The tables in the kernel's maps.
struct Maps;

impl Tables for Maps {
    #[inline(always)]
    fn module(&self, place: u32) -> Option<Module> {
        MODULES.get(place).copied()
    }

    #[inline(always)]
    fn page(&self, place: u32) -> Option<Page> {
        PAGES.get(place).copied()
    }

    #[inline(always)]
    fn row(&self, place: u32) -> Option<Row> {
        let chunk = ROWS.get(place / CHUNK_ROWS as u32)?;
        Some(chunk[place as usize & (CHUNK_ROWS - 1)])
    }

    #[inline(always)]
    fn rule(&self, number: u16) -> Option<Rule> {
        RULES.get(u32::from(number)).copied()
    }
}

/// Walks as many frames as one program may, and calls the next program.
#[inline(always)]
pub fn walk<C: EbpfContext>(ctx: &C) {
    let Some((thread, config)) = context() else { return };
    let wish = Wish {
        view: VIEW.get(0).copied().unwrap_or_default(),
        full: config.native == Mode::Full as u32,
        max_depth: config.max_depth,
        replaced: (thread.int_sp, thread.int_caller.address),
    };
    if thread.native.walk(&HitMemory, &Maps, wish, &mut thread.scratch.window, NATIVE_TURNS) {
        hand_over(ctx, Stage::Native);
        return settle(thread);
    }
    ended(NativeEnd::from_code(thread.native.end), wish.view.generation(), gate::patient(config));
    hand_over(ctx, Stage::Books);
    settle(thread);
}

/// Counts what is missing, and asks the loader to look again if it may be code that has been mapped since.
#[inline(always)]
fn ended(end: NativeEnd, generation: u32, flags: u64) {
    let loss = match end {
        NativeEnd::Off | NativeEnd::Running | NativeEnd::Outermost | NativeEnd::Evaluator => return,
        NativeEnd::NoModule => Loss::NativeNoModule,
        NativeEnd::NoRows => Loss::NativeNoRows,
        NativeEnd::Rule => Loss::NativeRule,
        NativeEnd::Fault => Loss::NativeFault,
        NativeEnd::Depth => Loss::NativeDepth,
        NativeEnd::Astray => Loss::NativeAstray,
    };
    lose(loss);
    // Where other code was mapped in the place of what is known, the tables lead nowhere.
    if matches!(end, NativeEnd::NoModule | NativeEnd::NoRows | NativeEnd::Astray) {
        ask(generation, flags);
    }
}

/// Asks once for each generation of the tables.
#[inline(always)]
fn ask(generation: u32, flags: u64) {
    let Some(state) = PROCESS.get_ptr_mut(0) else { return };
    // SAFETY: the pointer came from the map; the field is one aligned word, and a race asks twice, which is harmless.
    let asked = unsafe { &raw mut (*state).asked };
    // SAFETY: as above.
    if unsafe { asked.read_volatile() } == generation {
        return;
    }
    // SAFETY: as above. It is set first: a loader that is busy with a full ring looks here between two batches.
    unsafe { asked.write_volatile(generation) };
    let head = EventHead { kind: EventKind::UnknownCode as u32, ..EventHead::default() };
    // It only wakes the loader, or in a window waits until that looks.
    let _ = RING.output::<EventHead>(head, flags);
}
