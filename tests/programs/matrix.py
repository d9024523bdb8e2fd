"""A known leak amid churn for every CPython from 3.8 on: its line, everybody who called it, and each of its blocks to the byte."""

import sys

import stage

COUNT = 4_000
SIZE = 144  # Of a bytes object with its head; pymalloc has a size class of it, so that it is told alike wherever it is seen.

kept = [None] * COUNT
callers = []


def told(frame):
    """CPython's own word of a frame and those that called it."""
    while frame is not None:
        code = frame.f_code
        yield {"function": stage.name(code), "file": code.co_filename, "line": frame.f_lineno}
        frame = frame.f_back


def keep(number):
    if not callers:
        callers.extend(told(sys._getframe(1)))
    kept[number] = bytes(SIZE - HEAD)  # LEAK


def feed(number):
    yield keep(number)


class Shelf:
    add = staticmethod(lambda number: [done for done in feed(number)])


def descend(depth, number):
    return Shelf.add(number) if depth == 0 else descend(depth - 1, number)


def go():
    stage.amid_churn(COUNT, lambda number: descend(10, number))
    return stage.truth(stage.leak(MARK, sizes={SIZE: COUNT}, type="bytes"), frames=[MARK] + callers)


HEAD = sys.getsizeof(b"")
MARK = stage.mark(keep)
stage.serve(go=go)
