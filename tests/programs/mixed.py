"""Ints, dicts, strs, floats, tuples and lists, one of each a round, counted by the interpreter's own books.

`go` makes 100,000 rounds in batches and keeps every tenth. While a batch is made nothing is freed, and while most of it is dropped nothing
is made: so the change of the interpreter's blocks in use over the first phase is what was allocated, and over the second what was freed.
`figures` tells both, from `sys.getallocatedblocks()` and from `sys._debugmallocstats()`, beside what follows from the program's text. It is
asked after the trace, because reading the statistics makes thousands of blocks.

Two things keep the counts derivable. All slots, indices and constants exist before `go`, so that a loop allocates what it stores and nothing
else. And every batch ends with `gc.collect()`, which empties the freelists (`clear_freelists` in CPython 3.11's gcmodule.c): whatever was
dropped is given back to the allocator, and the next batch asks for all of its blocks.
"""

import gc
import os
import sys
import tempfile

import stage

ROUNDS = 100_000
BATCHES = 5
KEPT_ONE_IN = 10
# int 1, dict 2 (the dict and its keys), str 1, float 1, tuple 1, list 2 (the list and its items).
BLOCKS_A_ROUND = 8
KINDS = 6

BATCH = ROUNDS // BATCHES
SLOTS = [list(range(batch * BATCH, (batch + 1) * BATCH)) for batch in range(BATCHES)]
DROPPED = [[slot for slot in slots if slot % KEPT_ONE_IN] for slots in SLOTS]
INTS, DICTS, STRS, FLOATS, TUPLES, LISTS = ([None] * ROUNDS for _ in range(KINDS))
MILLION = 1_000_000
HEAD, TAIL = "the head of a text, ", "and its tail"
BLOCKS = [0] * (2 * BATCHES + 1)
BOOKS = [tempfile.TemporaryFile(prefix="unshed-mixed-") for _ in BLOCKS]
STDERR = os.dup(2)


def make(slots):
    for slot in slots:
        INTS[slot] = slot + MILLION
        DICTS[slot] = {"slot": slot}
        STRS[slot] = HEAD + TAIL
        FLOATS[slot] = slot * 0.5
        TUPLES[slot] = (slot, HEAD)
        LISTS[slot] = [slot]


def drop(slots):
    for slot in slots:
        INTS[slot] = DICTS[slot] = STRS[slot] = FLOATS[slot] = TUPLES[slot] = LISTS[slot] = None
    gc.collect()


def look(number):
    """Notes the blocks in use; the interpreter prints its statistics to file descriptor 2 (`_PyObject_DebugMallocStats(stderr)`)."""
    os.dup2(BOOKS[number].fileno(), 2)
    sys._debugmallocstats()
    os.dup2(STDERR, 2)
    BLOCKS[number] = sys.getallocatedblocks()


def go():
    gc.collect()
    look(0)
    for batch in range(BATCHES):
        make(SLOTS[batch])
        look(2 * batch + 1)
        drop(DROPPED[batch])
        look(2 * batch + 2)
    return stage.truth()


def in_use(book):
    """The sum of the column `blocks in use` of the table `class, size, num pools, blocks in use, avail blocks`."""
    book.seek(0)
    rows = [line.split() for line in book.read().decode().splitlines()]
    start = next(number for number, row in enumerate(rows) if row[:1] == ["-----"]) + 1
    end = next(number for number, row in enumerate(rows) if number > start and not row)
    table = [[int(cell) for cell in row] for row in rows[start:end]]
    if not table or any(len(row) != 5 or row[1] != 16 * (row[0] + 1) for row in table):
        raise SystemExit(f"sys._debugmallocstats() prints another table: {rows[:40]}")
    return sum(row[3] for row in table)


def phases(looks):
    """What was allocated and freed in all, and what is left, if a look follows every phase."""
    made = sum(looks[number + 1] - looks[number] for number in range(0, len(looks) - 1, 2))
    gone = sum(looks[number + 1] - looks[number + 2] for number in range(0, len(looks) - 1, 2))
    return {"allocated": made, "freed": gone, "kept": looks[-1] - looks[0]}


def figures():
    kept = sum(map(len, SLOTS)) - sum(map(len, DROPPED))
    text = {
        "allocated": BLOCKS_A_ROUND * ROUNDS,
        "freed": BLOCKS_A_ROUND * (ROUNDS - kept),
        "kept": BLOCKS_A_ROUND * kept,
    }
    return stage.truth(by_text=text, by_count=phases(BLOCKS), by_class=phases([in_use(book) for book in BOOKS]))


make(SLOTS[0][:1000])
drop(SLOTS[0][:1000])
look(0)
stage.serve(go=go, figures=figures)
