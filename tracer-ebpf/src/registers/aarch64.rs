//! aarch64: a call leaves its return address in `x30`. A program sees `struct user_pt_regs` (arch/arm64/include/uapi/asm/ptrace.h): `x0` to `x30`, the stack
//! pointer, the instruction, the state.
//!
//! It compiles, and has not run yet.

use core::mem::offset_of;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::user_pt_regs;

use super::read_at;

macro_rules! general {
    ($regs:expr, $number:literal) => {
        read_at!($regs, offset_of!(user_pt_regs, regs) + 8 * $number)
    };
}

/// The registers at a hit.
#[derive(Clone, Copy)]
pub struct Context(*const user_pt_regs);

impl Context {
    /// Those that a program was called with.
    #[inline(always)]
    pub fn of<C: EbpfContext>(ctx: &C) -> Self {
        Self(ctx.as_ptr().cast::<user_pt_regs>().cast_const())
    }

    /// The probed instruction.
    #[inline(always)]
    pub fn ip(self) -> u64 {
        read_at!(self.0, offset_of!(user_pt_regs, pc))
    }

    /// The stack pointer.
    #[inline(always)]
    pub fn stack(self) -> u64 {
        read_at!(self.0, offset_of!(user_pt_regs, sp))
    }

    /// The frame pointer, where code keeps one (AAPCS64, 6.4.6).
    #[inline(always)]
    pub fn frame(self) -> u64 {
        general!(self.0, 29)
    }

    /// Where a function returns to, at its entry. It is not signed there yet.
    #[inline(always)]
    pub fn link(self) -> Option<u64> {
        Some(general!(self.0, 30))
    }

    /// A register, by its number (`tracer_common::hook::Register`); 0 for one of another processor.
    #[inline(always)]
    pub fn register(self, number: u8) -> u64 {
        match number {
            32 => general!(self.0, 0),
            33 => general!(self.0, 1),
            34 => general!(self.0, 2),
            35 => general!(self.0, 3),
            36 => general!(self.0, 4),
            37 => general!(self.0, 5),
            38 => general!(self.0, 6),
            39 => general!(self.0, 7),
            40 => general!(self.0, 8),
            41 => general!(self.0, 9),
            42 => general!(self.0, 10),
            43 => general!(self.0, 11),
            44 => general!(self.0, 12),
            45 => general!(self.0, 13),
            46 => general!(self.0, 14),
            47 => general!(self.0, 15),
            48 => general!(self.0, 16),
            49 => general!(self.0, 17),
            50 => general!(self.0, 18),
            51 => general!(self.0, 19),
            52 => general!(self.0, 20),
            53 => general!(self.0, 21),
            54 => general!(self.0, 22),
            55 => general!(self.0, 23),
            56 => general!(self.0, 24),
            57 => general!(self.0, 25),
            58 => general!(self.0, 26),
            59 => general!(self.0, 27),
            60 => general!(self.0, 28),
            61 => general!(self.0, 29),
            62 => general!(self.0, 30),
            63 => self.stack(),
            _ => 0,
        }
    }
}
