"""One leak in Python and one in C, wherever the program lives. With the word `now` it does its work at once, prints its truth and ends."""
# builds: ext/leaks.c

import json
import sys

import leaks
import stage
from c_source import Source, python_frame, row

SOURCE = Source("leaks.c")
COUNT = 3000
SIZE = 144  # Of a bytes object with its head; pymalloc has a size class of it.
IN_C = 160

kept = []
done = 0


def keep(shelf, number):
    shelf[number] = bytes(SIZE - HEAD)  # LEAK


def call():
    leaks.leak("mem called", COUNT)  # CALL


def go():
    global done
    done += COUNT
    shelf = [None] * COUNT
    kept.append(shelf)
    stage.amid_churn(COUNT, lambda number: keep(shelf, number))
    call()
    stack = SOURCE.leak("mem called") + [SOURCE.frame("RUN", "leak"), python_frame(stage.mark(call, "# CALL"))]
    rows = [row("mem called", stack, done, IN_C, None)]
    return stage.truth(stage.leak(MARK, sizes={SIZE: done}, type="bytes"), stacks=rows)


HEAD = sys.getsizeof(b"")
MARK = stage.mark(keep)
if "now" in sys.argv:
    for _ in range(12):  # What looks on may need a moment to know the extension, and to read the names.
        go()
    print(json.dumps(go()))
else:
    stage.serve(go=go)
