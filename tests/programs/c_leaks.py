"""What C extensions leak, in every way, from everywhere. With the word `late` the extension is imported only after the trace began; with `now`
the program does its work at once, prints its truth and ends."""
# builds: ext/leaks.c

import gc
import json
import sys

import stage
from c_source import NAMELESS, Source, lines, python_frame, row

SOURCE = Source("leaks.c")

# Debian's 3.15 has the allocator in this function, which jumped on to it before.
MEM = "PyMem_Malloc" if sys.version_info >= (3, 15) else None

# Bytes asked for by a leak of each kind, and the interpreter's function that is called for it.
KINDS = {
    # What jumps on leaves no frame: in Debian's 3.15 into a function without a symbol, and without the GIL.
    "int": (stage.INT_BYTES, "_PyLong_FromMedium" if stage.WITHOUT_GIL else "PyLong_FromLong" if sys.version_info < (3, 15) else NAMELESS),
    "reference": (stage.HEAD_BYTES + 48, "PyBytes_FromStringAndSize"),
    "malloc": (777, None),
    "mem": (160, MEM),
    "large": (1600, MEM),
    "raw": (555, None),
    "dict": (sys.getsizeof({}), "new_dict" if stage.WITHOUT_GIL else "PyDict_New"),
    "tuple": (96, "PyTuple_New"),
}

CALLERS = {
    "int inlined": lambda count: leaks.leak("int inlined", count),
    "int called": lambda count: leaks.leak("int called", count),
    "reference inlined": lambda count: leaks.leak("reference inlined", count),
    "reference called": lambda count: leaks.leak("reference called", count),
    "malloc inlined": lambda count: leaks.leak("malloc inlined", count),
    "malloc called": lambda count: leaks.leak("malloc called", count),
    "mem inlined": lambda count: leaks.leak("mem inlined", count),
    "mem called": lambda count: leaks.leak("mem called", count),
    "large inlined": lambda count: leaks.leak("large inlined", count),
    "large called": lambda count: leaks.leak("large called", count),
    "raw inlined": lambda count: leaks.leak("raw inlined", count),
    "raw called": lambda count: leaks.leak("raw called", count),
    "dict inlined": lambda count: leaks.leak("dict inlined", count),
    "dict called": lambda count: leaks.leak("dict called", count),
    "tuple inlined": lambda count: leaks.leak("tuple inlined", count),
    "tuple called": lambda count: leaks.leak("tuple called", count),
}

ROWS = []
LEAK = SOURCE.frame("RUN", "leak")


def load():
    global leaks
    import leaks


def told(name, way, outside, blocks):
    """Notes what has been leaked: `outside` are the frames around the function that runs the helper."""
    size, above = KINDS[name.split()[0]]
    ROWS.append(row(f"{name}, {way}", SOURCE.leak(name) + outside, blocks, size, above))


def count():
    """Each row has a count of its own, so that two that are mixed up do not add up. What is leaked next comes from the allocator and
    not from a freelist that the work between two leaks has filled."""
    gc.collect()
    return 1000 + len(ROWS)


def from_python(name, caller):
    blocks = count()
    caller(blocks)  # FROM
    outer = stage.mark(from_python, "# FROM")
    told(name, "from Python", [LEAK, python_frame(caller), python_frame(outer, direct=True)], blocks)


def through(caller, blocks):
    leaks.through(caller, blocks)  # THROUGH


def through_callback(name, caller):
    blocks = count()
    through(caller, blocks)
    outside = [LEAK, python_frame(caller), SOURCE.frame("RUN", "through"), python_frame(stage.mark(through, "# THROUGH"))]
    told(name, "through a callback", outside, blocks)


class Item:
    """What is sorted by a key that leaks."""

    def __init__(self, caller):
        self.caller = caller

    def key(self):
        self.caller(1)  # KEY
        return 0


def by_key(items):
    items.sort(key=Item.key)  # SORTED


def through_key(name, caller):
    blocks = count()
    by_key([Item(caller)] * blocks)
    key, outer = stage.mark(Item.key, "# KEY"), stage.mark(by_key, "# SORTED")
    outside = [LEAK, python_frame(caller), python_frame(key, direct=True), python_frame(outer)]
    told(name, "through a sorted key", outside, blocks)


COMPARERS = {
    "int inlined": lambda: leaks.sort("int inlined", 300),
    "malloc called": lambda: leaks.sort("malloc called", 300),
}


def through_comparison(name, comparer):
    gc.collect()
    comparer()
    outside = [SOURCE.frame("RUN", "compare"), SOURCE.frame("RUN", "sort"), python_frame(comparer)]
    told(name, "through the C library", outside, leaks.compared())


def in_thread(name):
    blocks = count()
    leaks.in_thread(name, blocks)
    told(name, "in a thread", [SOURCE.frame("RUN", "with_python")], blocks)


def in_bare_thread(name):
    blocks = count()
    leaks.in_bare_thread(name, blocks)
    told(name, "in a thread without the GIL", [SOURCE.frame("RUN", "without_python")], blocks)


def called_in_thread(name, caller):
    blocks = count()
    run = lambda nothing: caller(blocks)
    leaks.call_in_thread(run)
    outside = [LEAK, python_frame(caller), python_frame(run, direct=True), SOURCE.frame("RUN", "back_to_python")]
    told(name, "in a callback in a thread", outside, blocks)


def go():
    load()
    for name, caller in CALLERS.items():
        from_python(name, caller)
        through_callback(name, caller)
        in_thread(name)
    for name in ("malloc inlined", "malloc called", "raw inlined", "raw called"):
        in_bare_thread(name)
    for name, comparer in COMPARERS.items():
        through_comparison(name, comparer)
        through_key(name, CALLERS[name])
        called_in_thread(name, CALLERS[name])
    return stage.truth(*lines(ROWS), stacks=ROWS)


gc.disable()  # A full collection would empty the freelists again.
if "late" not in sys.argv:
    load()
if "now" in sys.argv:
    go()  # What looks on may need a moment to know the extension.
    print(json.dumps(go()))
else:
    stage.serve(go=go)
