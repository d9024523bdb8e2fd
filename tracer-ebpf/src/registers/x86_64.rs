//! x86-64: a call leaves its return address on the stack.

use core::mem::offset_of;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::pt_regs;

use super::read_at;

macro_rules! field {
    ($regs:expr, $field:ident) => {
        read_at!($regs, offset_of!(pt_regs, $field))
    };
}

/// The registers at a hit.
#[derive(Clone, Copy)]
pub struct Context(*const pt_regs);

impl Context {
    /// Those that a program was called with.
    #[inline(always)]
    pub fn of<C: EbpfContext>(ctx: &C) -> Self {
        Self(ctx.as_ptr().cast::<pt_regs>().cast_const())
    }

    /// The probed instruction.
    #[inline(always)]
    pub fn ip(self) -> u64 {
        field!(self.0, rip)
    }

    /// The stack pointer.
    #[inline(always)]
    pub fn stack(self) -> u64 {
        field!(self.0, rsp)
    }

    /// The frame pointer, where code keeps one.
    #[inline(always)]
    pub fn frame(self) -> u64 {
        field!(self.0, rbp)
    }

    /// Where a function returns to, if a register says so at its entry: none does.
    #[inline(always)]
    pub fn link(self) -> Option<u64> {
        None
    }

    /// A register, by its number (`tracer_common::hook::Register`).
    #[inline(always)]
    pub fn register(self, number: u8) -> u64 {
        match number {
            0 => field!(self.0, rax),
            1 => field!(self.0, rcx),
            2 => field!(self.0, rdx),
            3 => field!(self.0, rbx),
            4 => field!(self.0, rsp),
            5 => field!(self.0, rbp),
            6 => field!(self.0, rsi),
            7 => field!(self.0, rdi),
            8 => field!(self.0, r8),
            9 => field!(self.0, r9),
            10 => field!(self.0, r10),
            11 => field!(self.0, r11),
            12 => field!(self.0, r12),
            13 => field!(self.0, r13),
            14 => field!(self.0, r14),
            _ => field!(self.0, r15),
        }
    }
}
