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

import gc
import json
import os
import sys
import tracemalloc

_last_truth = {"leaks": []}
_at_ready = 0


def serve(**commands):
    """Obeys the test until it says `quit` or closes the pipe."""
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


def mark(function, marker="# LEAK"):
    """Name, file and line of the marked line of a function."""
    code = function.__code__
    return {"function": function.__qualname__, "file": code.co_filename, "line": _line(code, marker)}


def _line(code, marker):
    with open(code.co_filename) as source:
        lines = source.read().splitlines()
    mine = {line for _, _, line in code.co_lines() if line}
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
    for number in range(count):
        step(number)
        if number % every == 0:
            churn(1)


churn(20)  # Fills freelists and caches, so that what is seen later is only what is done later.
