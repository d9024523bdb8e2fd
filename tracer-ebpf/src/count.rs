//! How often each probe point is hit, and nothing else: what a trace would cost is told from it, before anything is traced.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_get_attach_cookie;

use crate::loss::add;
use crate::maps::{CONFIG, POINT_HITS};
use crate::process;

/// A hit of the target's, while counting is on. The point's cookie is its place in the counters, as it is in the table of hooks.
#[inline(always)]
pub fn hit<C: EbpfContext>(ctx: &C) {
    let Some(config) = CONFIG.get(0) else { return };
    // SAFETY: `config` is a map value; the field is one aligned word, which may change under us.
    let armed = unsafe { (&raw const config.armed).read_volatile() };
    if armed != 1 || process::target_tid(config).is_none() {
        return;
    }
    // SAFETY: the helper only reads the context.
    let place = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) } as u32;
    if let Some(hits) = POINT_HITS.get_ptr_mut(place) {
        add(hits, 1);
    }
}
