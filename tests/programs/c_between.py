"""Every way in which CPython 3.11 gets from one Python function to another through C, with a leak in C at the end of it."""
# builds: ext/leaks.c

import gc

import leaks
import stage
from c_source import Source, python_frame, row

SOURCE = Source("leaks.c")
KINDS = {"int inlined": (32, "PyLong_FromLong"), "malloc called": (777, None)}
LEVELS = 6  # Of some seven C frames each: 64 are kept of a stack.


def leak():
    leaks.leak(kind, 1)  # LEAK


def ignore(*anything):
    leak()  # IGNORE


class Owner:
    def __del__(self):
        leak()  # DEL

    def __add__(self, other):
        leak()  # ADD
        return other

    @property
    def name(self):
        leak()  # NAME

    def __getattr__(self, name):
        leak()  # GETATTR


class Meta(type):
    def __call__(cls):
        leak()  # CALL


class Made(metaclass=Meta):
    pass


def deleted():
    Owner()  # DELETED


def added():
    OWNER + 1  # ADDED


def of_property():
    OWNER.name  # OF_PROPERTY


def got():
    OWNER.whatever  # GOT


def made():
    Made()  # MADE


def mapped():
    list(map(ignore, "a"))  # MAPPED


def produce():
    leak()  # PRODUCE
    yield


def produced():
    for _ in produce():  # PRODUCED
        pass


def delegate():
    yield from produce()  # DELEGATE


def delegated():
    next(delegate())  # DELEGATED


async def wait():
    leak()  # WAIT


async def awaits():
    await wait()  # AWAITS


def sent():
    try:
        awaits().send(None)  # SENT
    except StopIteration:
        pass


def nest(levels):
    if levels == 0:
        leak()  # INNERMOST
    else:
        leaks.through(nest, levels - 1)  # NEST


def nested():
    nest(LEVELS)  # NESTED


def unpacked():
    ignore(*"a", **{})  # UNPACKED


def frame(function, direct=False):
    marker = "# " + function.__name__.strip("_").upper()
    return python_frame(stage.mark(function, marker), direct=direct)


INNERMOST = python_frame(stage.mark(nest, "# INNERMOST"), direct=True)
NEST = [SOURCE.frame("RUN", "through"), python_frame(stage.mark(nest, "# NEST"))]

# What is called, and the frames between it and `leak`, innermost first.
WAYS = {
    deleted: [frame(Owner.__del__, direct=True)],
    added: [frame(Owner.__add__, direct=True)],
    of_property: [frame(Owner.name.fget, direct=True)],
    got: [frame(Owner.__getattr__, direct=True)],
    made: [frame(Meta.__call__, direct=True)],
    mapped: [frame(ignore, direct=True)],
    produced: [frame(produce, direct=True)],
    delegated: [frame(produce, direct=True), frame(delegate)],
    sent: [frame(wait, direct=True), frame(awaits)],
    nested: [INNERMOST, *NEST * LEVELS],
    unpacked: [frame(ignore, direct=True)],
}
# The evaluator of 3.11 calls a function without C in between where a call names all its arguments.
DIRECT = (nested,)


def go():
    global kind
    rows = []
    leaf = [SOURCE.frame("RUN", "leak"), frame(leak)]
    for kind, (size, above) in KINDS.items():
        for way, between in WAYS.items():
            gc.collect()
            count = 200 + len(rows)
            for _ in range(count):
                way()
            stack = SOURCE.leak(kind) + leaf + between + [frame(way, direct=way in DIRECT)]
            rows.append(row(f"{kind}, {way.__name__}", stack, count, size, above))
    return stage.truth(stacks=rows)


OWNER = Owner()
gc.disable()
stage.serve(go=go)
