"""What the programs of this folder share: the protocol with the test, honest churn, and the finding of marked lines.

A program prints `READY PID`, then obeys the lines that come on stdin: the first word names a command, the others are whole
numbers, and each command answers with one line of JSON. The end of stdin, or `quit`, ends the program. `go` does what the
program is for and answers with its truth: {"leaks": [{"function", "file", "line", "blocks", "sizes", "type"}, …], …}, where
`blocks` counts what the marked line (`# LEAK`) has allocated and nobody has freed, and `sizes`, where it is known, says how many of
them were asked for with how many bytes.

Churn must leave nothing behind, and it must not feed the leak: CPython hands a freed tuple, list, dict or float to the next
taker without asking the allocator (its freelists), which would charge the leak to the line of the churn. So the marked
lines make only objects without freelists, or objects that the churn does not make.
"""

import dis
import gc
import json
import os
import sys
import tracemalloc

# How much less a program does than it would alone: `every_row.py` runs many of them in one process.
SHARE = 1

# Without the GIL an object's head has 16 bytes more: its owner, and a second count of references (Include/object.h, Py_GIL_DISABLED).
WITHOUT_GIL = "t" in sys.abiflags
HEAD_BYTES = 32 if WITHOUT_GIL else 16

# What is asked for an int of one digit: from 3.11 on sizeof(PyLongObject), of which it uses 28 bytes and the rest of the head.
INT_BYTES = HEAD_BYTES + 16 if sys.version_info >= (3, 11) else sys.getsizeof(1000)

# The ints from 0 on that CPython has made once for all: 257, from 3.15 on 1025.
SMALL_INTS = next(number for number in range(1 << 20) if int(str(number)) is not int(str(number)))

# An instance with attributes: in 3.11 and 3.12 their values are a block of their own, made with it; from 3.13 on they lie in the instance itself.
INSTANCE_BLOCKS = 2 if (3, 11) <= sys.version_info < (3, 13) else 1

# Up to 3.10 the first attribute makes the instance a dict, whose values are a block of their own.
ATTRIBUTE_BLOCKS = 2 if sys.version_info < (3, 11) else 0

# So seldom comes churn between objects that have a freelist (the dicts of instances up to 3.10, bound methods in 3.8 and from 3.14 on): what each round hands on is
# no block of the line that keeps it.
SELDOM = 20 if (3, 11) <= sys.version_info < (3, 14) else 200

_last_truth = {"leaks": []}
_at_ready = 0


def serve(**commands):
    """Obeys the test until it says `quit` or closes the pipe. What is imported by another program serves nobody."""
    if sys._getframe(1).f_globals["__name__"] != "__main__":
        return
    global _at_ready
    commands.setdefault("tracemalloc", _traced)
    if tracemalloc.is_tracing():
        _at_ready = _traced()["live_bytes"]
    gc.collect()  # Empties the freelists: what is leaked from now on is taken from the allocator, and seen.
    print("READY", os.getpid(), flush=True)
    while True:
        words = sys.stdin.readline().split()
        if not words or words[0] == "quit":
            return
        answer = commands[words[0]](*map(int, words[1:]))
        print(json.dumps({} if answer is None else answer), flush=True)


def name(code):
    """What a code object is called. Before 3.11 it has no qualified name."""
    return getattr(code, "co_qualname", code.co_name)


def mark(function, marker="# LEAK"):
    """Name, file and line of the marked line of a function."""
    code = function.__code__
    return {"function": name(code), "file": code.co_filename, "line": _line(code, marker)}


def _line(code, marker):
    with open(code.co_filename) as source:
        lines = source.read().splitlines()
    mine = {line for _, line in dis.findlinestarts(code) if line}
    found = [line for line in sorted(mine) if lines[line - 1].rstrip().endswith(marker)]
    if len(found) != 1:
        raise SystemExit(f"{code.co_filename}: {code.co_name} has {len(found)} lines marked {marker!r}, not one")
    return found[0]


def leak(marked, blocks=None, sizes=(), type=None):
    """One row of the truth: how many blocks a marked line has leaked so far, or how many of each size ({bytes asked for: blocks})."""
    sizes = sorted(dict(sizes).items())
    if blocks is None:
        blocks = sum(count for _, count in sizes)
    return {**marked, "blocks": blocks, "sizes": sizes, "type": type}


def attributes(function, count):
    """The rows of the truth for what the first attribute of so many instances has leaked, at the line of `function` marked `# FIRST`; none where that is nothing."""
    return [leak(mark(function, "# FIRST"), blocks=ATTRIBUTE_BLOCKS * count, type="dict")] if ATTRIBUTE_BLOCKS else []


def size_class(asked):
    """What pymalloc gives for a request: a multiple of 16 bytes; longer ones than 512 bytes are not its own."""
    return -(-asked // 16) * 16 if asked <= 512 else asked


def truth(*leaks, **facts):
    """The answer to `go`."""
    global _last_truth
    _last_truth = {"leaks": list(leaks), **facts}
    return _last_truth


def _traced():
    """What tracemalloc says of the lines of the last truth, to check the programs themselves (`-X tracemalloc`)."""
    totals, files = {}, {}
    for trace in tracemalloc.take_snapshot().traces:
        frame = trace.traceback[0]
        for table, key in ((totals, (frame.filename, frame.lineno)), (files, frame.filename)):
            count, size = table.get(key, (0, 0))
            table[key] = (count + 1, size + trace.size)
    rows = []
    for row in _last_truth["leaks"]:
        blocks, size = totals.get((row["file"], row["line"]), (0, 0))
        rows.append({**row, "blocks": blocks, "sizes": [], "bytes": size})
    program = files.get(os.path.abspath(sys.argv[0]), (0, 0))
    return {"leaks": rows, "live_bytes": program[1] - _at_ready}


def churn(rounds):
    """Honest work: everything that it allocates is freed again."""
    for number in range(rounds):
        text = json.dumps({"id": number, "name": "item %d" % number, "tags": ["red", "green"], "price": 9.5 * number})
        words = text.split(",")
        lengths = {word: len(word) * 1000 for word in words}
        joined = "|".join([word.upper() for word in words])
        if json.loads(text)["id"] != number or len(lengths) != len(words) or not joined:
            raise SystemExit("the churn is wrong")


def amid_churn(count, step, every=20):
    """Calls `step` with 0, 1, 2 … and does some honest churn after every so many of them."""
    due = 0  # A remainder would be one more int, which goes from a freelist to whoever comes next.
    for number in range(count):  # NUMBER
        step(number)  # STEP
        if number == due:
            due += every
            churn(1)


churn(20)  # Fills freelists and caches, so that what is seen later is only what is done later.
