"""Leaks at the end of stacks that are hard to walk. `go` does all but two; `deep LEVELS` recurses so deep in C; `own` leaks on a stack from
which no way leads back."""
# builds: ext/edges.c

import gc

import edges
import stage
from c_source import Source, python_frame, row

SOURCE = Source("edges.c")

# Bytes asked for, the interpreter's function that is called for them, and the marked lines between the leaking one and `leak`.
KINDS = {
    "aligned": (64, "PyDict_New", []),
    "grown": (160, None, []),
    "cold": (555, None, []),
    "released": (900, None, []),
    "in_signal": (777, None, [("CALL", "handle"), ("RUN", "in_signal")]),
    "on_signal_stack": (777, None, [("CALL", "handle"), ("RUN", "on_signal_stack")]),
}
LEVELS = 12


def leak(name, count, length):
    edges.leak(name, count, length)  # LEAK


def leaked(name, size, above, frames, count, length=3):
    gc.collect()
    leak(name, count, length)
    return row(name, [SOURCE.frame(*frame) for frame in frames] + [python_frame(stage.mark(leak))], count, size, above)


def go():
    rows = []
    for name, (size, above, between) in KINDS.items():
        first = ("LEAK", "handle" if "signal" in name else name)
        rows.append(leaked(name, size, above, [first, *between, ("RUN", "leak")], 100 + len(rows)))
    return stage.truth(stacks=[*rows, *deep(LEVELS)["stacks"]])


def deep(levels):
    frames = [("LEAK", "deep")] + [("CALL", "deep")] * levels + [("RUN", "leak")]
    return stage.truth(stacks=[leaked("deep", 777, None, frames, 99, levels)])


def own():
    return stage.truth(stacks=[leaked("on_own_stack", 32, "PyLong_FromLong", [("LEAK", "coroutine")], 98)])


gc.disable()
stage.serve(go=go, deep=deep, own=own)
