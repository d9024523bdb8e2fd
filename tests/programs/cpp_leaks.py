"""What a C++ extension leaks: in methods, through `new`, and while an exception is thrown."""
# builds: ext/vault.cpp

import gc

import stage
import vault
from c_source import Source, lines, python_frame, row

SOURCE = Source("vault.cpp", within="vault::")

# Bytes asked for by a leak of each kind, the function that is called for it, and which functions run the leaking ones.
KINDS = {
    "method inlined": (32, "PyLong_FromLong", ["inlined_methods"]),
    "method called": (32, "PyLong_FromLong", ["called_methods"]),
    "new called": (777, "operator new", []),
    "catch called": (160, None, []),
    "destructor called": (555, None, ["unwinders"]),
}


def leak(name, count):
    vault.leak(name, count)  # LEAK


def leaked(name):
    gc.collect()
    count = 1000 + list(KINDS).index(name)
    leak(name, count)
    size, above, runners = KINDS[name]
    outside = [SOURCE.frame("RUN", runner) for runner in [*runners, "leak"]]
    stack = SOURCE.leak(name) + outside + [python_frame(stage.mark(leak))]
    return row(name, stack, count, size, above)


def go():
    rows = [leaked(name) for name in KINDS]
    return stage.truth(*lines(rows), stacks=rows)


leak("catch called", 1)  # The first exception of a process allocates what stays.
gc.disable()
stage.serve(go=go)
