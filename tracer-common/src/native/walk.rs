//! The walk itself: one frame a turn, with all that it knows in one place, so that a program in the kernel can stop after some turns and the next go on.

use super::{EVALUATOR, NativeEnd};
use crate::event::EventHead;
use crate::frame::mix;
use crate::limits::{MAX_DEPTH, WINDOW};
use crate::unwind::{self, Cfa, Missing, Rbp, Rule, Tables, View};
use crate::walk::{Fault, UserMemory};
use crate::window::{Want, Window};

/// Rules that a thread remembers by address, a power of two.
const KNOWN: usize = 256;

/// From this many bytes on, a frame is read at its upper end only.
const LARGE_FRAME: u64 = 2048;

/// Bytes of stack that are read besides, where nothing better is known.
const AHEAD: u64 = 512;

/// Offsets in bytes from `rsp` in a signal's frame (arch/x86/include/uapi/asm/sigcontext.h, behind the 40 bytes of `ucontext` before it).
const SIGNAL_RBP: u64 = 120;
const SIGNAL_RSP: u64 = 160;
const SIGNAL_RIP: u64 = 168;

/// A rule that was found before.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// The address, with the generation of the tables in its upper bits; 0: nothing.
    key: u64,
    rule: Rule,
}

/// Where a walk begins.
#[derive(Clone, Copy, Debug, Default)]
pub struct Begin {
    /// The instruction that runs next.
    pub ip: u64,
    /// The stack pointer.
    pub sp: u64,
    /// `rbp`.
    pub rbp: u64,
    /// Where on the stack `ip` itself was before it was returned to; 0 if it was not.
    pub slot: u64,
    /// Where on the stack the address lies that is recorded first; 0: the walk's beginning is.
    pub caller_slot: u64,
    /// What is recorded first: an address behind the instruction that asked for the memory.
    pub caller: u64,
    /// What the hash begins from.
    pub seed: u64,
}

/// A walk in progress, and what is remembered for the next one of the same thread. In the kernel it lies in the thread's map entry and goes from program to program.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Native {
    /// The frame that is looked at: an address behind its instruction.
    pc: u64,
    sp: u64,
    rbp: u64,
    slot: u64,
    caller_slot: u64,
    caller: u64,
    /// Hash of what was recorded.
    pub hash: u64,
    /// The stack pointer that the walk began with.
    base: u64,
    /// Bytes of stack that the last walk went up. A guess, of use only to read more at once.
    extent: u64,
    /// A [`NativeEnd`].
    pub end: u32,
    /// Addresses recorded.
    pub depth: u32,
    /// What the walk is asked.
    wish: Wish,
    /// Rules by address.
    known: [Known; KNOWN],
    /// The head of the record that will be sent, and behind it
    pub head: EventHead,
    /// the recorded addresses, innermost first, each behind the instruction of its frame; [`EVALUATOR`] may be set.
    pub frames: [u64; MAX_DEPTH],
}

const _: () = assert!(size_of::<Native>() == 80 + size_of::<Wish>() + 16 * KNOWN + size_of::<EventHead>() + 8 * MAX_DEPTH);
const _: () = assert!(
    core::mem::offset_of!(Native, frames) == core::mem::offset_of!(Native, head) + size_of::<EventHead>()
);

impl Default for Native {
    fn default() -> Self {
        Self {
            pc: 0,
            sp: 0,
            rbp: 0,
            slot: 0,
            caller_slot: 0,
            caller: 0,
            hash: 0,
            base: 0,
            extent: 0,
            end: NativeEnd::Off as u32,
            depth: 0,
            wish: Wish::default(),
            known: [Known::default(); KNOWN],
            head: EventHead::default(),
            frames: [0; MAX_DEPTH],
        }
    }
}

/// What does not change along a walk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish {
    /// The tables that are valid now.
    pub view: View,
    /// Whether the walk goes on beyond the evaluator.
    pub full: bool,
    /// Frames to record at most, and never more than [`MAX_DEPTH`].
    pub max_depth: u32,
    /// A place on the stack whose word was replaced by a return probe, and the word that stood there; 0: none.
    pub replaced: (u64, u64),
}

impl Native {
    /// Begins a walk.
    #[inline(always)]
    pub fn begin(&mut self, begin: Begin) {
        // One past the instruction, so that its own rule is found by the address before, like those of calls.
        self.pc = begin.ip.wrapping_add(1);
        self.sp = begin.sp;
        self.rbp = begin.rbp;
        self.slot = begin.slot;
        self.caller_slot = begin.caller_slot;
        self.caller = begin.caller;
        self.hash = mix(0, begin.seed);
        self.base = begin.sp;
        self.end = NativeEnd::Running as u32;
        self.depth = 0;
    }

    /// The recorded addresses.
    #[must_use]
    pub fn recorded(&self) -> &[u64] {
        self.frames.get(..self.depth as usize).unwrap_or_default()
    }

    /// Goes on for so many frames at most; `false` when the walk has ended and [`Native::end`] says how.
    #[inline(always)]
    pub fn walk<M: UserMemory, T: Tables>(
        &mut self,
        memory: &M,
        tables: &T,
        wish: Wish,
        window: &mut Window,
        turns: usize,
    ) -> bool {
        self.wish = wish;
        let mut turn = 0;
        let mut this = self;
        let mut window = window;
        while turn < turns {
            // What a turn leaves behind lies in memory, and what it is asked as well: the verifier follows each way through a turn on its own, unless it cannot tell them
            // apart afterwards, also by what was compared on the way.
            this = core::hint::black_box(this);
            window = core::hint::black_box(window);
            if !this.turn(memory, tables, window) {
                this.extent = this.sp.wrapping_sub(this.base);
                return false;
            }
            turn += 1;
        }
        true
    }

    /// Records the frame and steps to its caller's.
    #[inline(always)]
    fn turn<M: UserMemory, T: Tables>(
        &mut self,
        memory: &M,
        tables: &T,
        window: &mut Window,
    ) -> bool {
        let wish = self.wish;
        // Two whole ways. Where they joined, the rule that one of them does not have would be read from a place on the stack that was never written, and
        // the verifier of 5.15 refuses that (6.1's does not); a rule of zeros in its place makes new verifiers follow half as many instructions again.
        let end = match self.rule(tables, wish.view) {
            Ok(rule) => {
                if let Some(end) = self.keep(rule, wish) {
                    return self.ends(end);
                }
                match self.step(memory, rule, wish.replaced, window) {
                    Ok(()) => return true,
                    Err(end) => end,
                }
            }
            Err(missing) => {
                if let Some(end) = self.keep(Rule::NONE, wish) {
                    return self.ends(end);
                }
                match missing {
                    Missing::Module => NativeEnd::NoModule,
                    Missing::Row => NativeEnd::NoRows,
                }
            }
        };
        if self.depth == 0 {
            // The way to who asked for the memory could not be walked, but who it was is known.
            self.record(self.caller, Rule::NONE, wish.max_depth);
        }
        self.ends(end)
    }

    /// Records the frame, if recording has begun, and says whether the walk ends with it.
    #[inline(always)]
    fn keep(&mut self, rule: Rule, wish: Wish) -> Option<NativeEnd> {
        let is_evaluator = rule.is_evaluator();
        if self.slot >= self.caller_slot {
            if is_evaluator && !wish.full {
                return Some(NativeEnd::Evaluator);
            }
            // The first is recorded as who asked; it is this very frame, unless the walk has missed that one.
            let is_caller = self.depth == 0 && (self.slot == self.caller_slot || self.caller_slot == 0);
            if self.depth == 0 && !is_caller {
                self.record(self.caller, Rule::NONE, wish.max_depth);
            }
            let address = if is_caller { self.caller } else { self.pc };
            if self.record(address, rule, wish.max_depth) {
                return Some(NativeEnd::Depth);
            }
        }
        None
    }

    #[inline(always)]
    fn ends(&mut self, end: NativeEnd) -> bool {
        self.end = end as u32;
        false
    }

    /// Records an address; `true` if there is no room for another.
    #[inline(always)]
    fn record(&mut self, address: u64, rule: Rule, max_depth: u32) -> bool {
        let depth = self.depth as usize;
        let mark = if rule.is_evaluator() { EVALUATOR } else { 0 };
        if depth >= MAX_DEPTH || self.depth >= max_depth {
            return true;
        }
        self.frames[depth & (MAX_DEPTH - 1)] = address | mark;
        // Another file at the same address is another stack.
        self.hash = mix(self.hash, address ^ rule.file() << 48);
        self.depth += 1;
        false
    }

    /// The rule of the frame's instruction.
    #[inline(always)]
    fn rule<T: Tables>(&mut self, tables: &T, view: View) -> Result<Rule, Missing> {
        let key = self.pc ^ (view.generation() as u64) << 48;
        let place = (self.pc ^ self.pc >> 8) as usize & (KNOWN - 1);
        if self.known[place].key == key {
            return Ok(self.known[place].rule);
        }
        let rule = unwind::find(tables, view, self.pc.wrapping_sub(1))?;
        self.known[place] = Known { key, rule };
        Ok(rule)
    }

    /// Steps to the caller's frame.
    #[inline(always)]
    fn step<M: UserMemory>(
        &mut self,
        memory: &M,
        rule: Rule,
        replaced: (u64, u64),
        window: &mut Window,
    ) -> Result<(), NativeEnd> {
        if rule.cfa() == Cfa::Signal as u8 {
            return self.step_over_signal(memory).map_err(|Fault| NativeEnd::Fault);
        }
        let cfa = self.cfa(memory, rule)?;
        // The caller's frame is above; equal only for what pushed nothing, which no call leaves.
        if cfa <= self.sp {
            return Err(NativeEnd::Astray);
        }
        let slot = cfa.wrapping_sub(8);
        let place = window.bring(memory, self.want(slot)).map_err(|Fault| NativeEnd::Fault)?;
        let mut pc = window.word(place, 0);
        if slot == replaced.0 {
            pc = replaced.1;
        }
        let rbp = if rule.rbp() == Rbp::Same as u8 {
            self.rbp
        } else if rule.rbp() == Rbp::Unknown as u8 {
            0
        } else {
            let base = if rule.rbp() == Rbp::AtCfa as u8 { cfa } else { self.rbp };
            let at = base.wrapping_add(rule.rbp_offset());
            // Only functions with a frame pointer need it: where it cannot be read, most stacks go on without.
            word(memory, window, at).unwrap_or(0)
        };
        if pc == 0 {
            return Err(NativeEnd::Outermost);
        }
        self.pc = pc;
        self.slot = slot;
        self.sp = cfa;
        self.rbp = rbp;
        Ok(())
    }

    /// Steps from a signal's frame to what it interrupted, which was about to run its instruction, and may have had another stack.
    #[inline(always)]
    fn step_over_signal<M: UserMemory>(&mut self, memory: &M) -> Result<(), Fault> {
        let frame = self.sp;
        self.pc = memory.word(frame.wrapping_add(SIGNAL_RIP))?.wrapping_add(1);
        self.sp = memory.word(frame.wrapping_add(SIGNAL_RSP))?;
        self.rbp = memory.word(frame.wrapping_add(SIGNAL_RBP))?;
        self.slot = frame;
        Ok(())
    }

    /// The canonical frame address.
    #[inline(always)]
    fn cfa<M: UserMemory>(&mut self, memory: &M, rule: Rule) -> Result<u64, NativeEnd> {
        let kind = rule.cfa();
        let at_sp = self.sp.wrapping_add(rule.cfa_offset());
        let at_rbp = self.rbp.wrapping_add(rule.cfa_offset());
        if kind == Cfa::Rsp as u8 {
            Ok(at_sp)
        } else if kind == Cfa::Rbp as u8 {
            Ok(at_rbp)
        } else if kind == Cfa::AtRsp as u8 || kind == Cfa::AtRbp as u8 {
            let at = if kind == Cfa::AtRsp as u8 { at_sp } else { at_rbp };
            memory.word(at).map_err(|Fault| NativeEnd::Fault)
        } else if kind == Cfa::Plt as u8 {
            // The stub's second push is done from the instruction at this place on.
            let pushed = self.pc.wrapping_sub(1) & 15 >= rule.cfa_offset() / 8;
            Ok(self.sp.wrapping_add(if pushed { 16 } else { 8 }))
        } else if kind == Cfa::Outermost as u8 {
            Err(NativeEnd::Outermost)
        } else {
            Err(NativeEnd::Rule)
        }
    }

    /// What to read for the word at `slot`: from the stack pointer on, as far up as the last walk went.
    #[inline(always)]
    fn want(&self, slot: u64) -> Want {
        let up = slot.wrapping_sub(self.sp);
        // The window is of words, and only a stack pointer that was not aligned is no whole number of them away.
        let alone = up >= LARGE_FRAME || up & 7 != 0;
        let from = if alone { slot } else { self.sp };
        let needed = slot.wrapping_sub(from).wrapping_add(8);
        let top = self.base.wrapping_add(self.extent);
        let mut total = if top > slot { top.wrapping_sub(from) } else { needed.wrapping_add(AHEAD) };
        if total >= WINDOW as u64 {
            total = WINDOW as u64 - 8;
        }
        if total < needed {
            total = needed;
        }
        Want { begin: slot, len: 8, from, total }
    }
}

/// One word, from the window if it is there.
#[inline(always)]
fn word<M: UserMemory>(memory: &M, window: &Window, address: u64) -> Result<u64, Fault> {
    if window.holds(address, 8) {
        let inside = address.wrapping_sub(window.at);
        return Ok(window.word((inside / 8) as usize, 0));
    }
    memory.word(address)
}

#[cfg(test)]
mod tests;
