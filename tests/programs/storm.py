"""Allocates and frees at full speed in several threads, all the time (`storm.py THREADS`)."""

import sys
import threading

import stage

THREADS = int(sys.argv[1]) if len(sys.argv) > 1 else 4
COUNTS = [0] * THREADS


def rage(mine):
    while True:
        rows = [b"row %d" % number for number in range(300)]
        table = dict.fromkeys(rows)
        buffers = [bytearray(number) for number in (100, 1000, 10_000)]
        for buffer in buffers:
            buffer.extend(b"more")
        if len(table) == len(rows):
            COUNTS[mine] += 1


def count():
    """How often the threads have been around; a target that stands still does not count on."""
    return {"count": sum(COUNTS), "slowest": min(COUNTS)}


for index in range(THREADS):
    threading.Thread(target=rage, args=(index,), daemon=True).start()
stage.serve(count=count)
