"""Python that calls C that calls Python, deeper and deeper: sorting, mapping and folding with functions in Python, finalisers, generators, coroutines, slots."""

import asyncio
import copy
import functools
import gc
import itertools
import operator

import forever


class Slots:
    """An object whose operators are all functions in Python."""

    def __init__(self, depth):
        self.depth = depth

    def __getattr__(self, name):
        return descend(self.depth - 1)

    def __lt__(self, other):
        return self.other < other.depth

    def __add__(self, other):
        return sum(part(other) for part in (self.__class__, lambda value: self.missing) for _ in range(1) if part)

    def __radd__(self, other):
        return other + 1

    def __hash__(self):
        return hash(str(self.depth))

    def __eq__(self, other):
        return self.depth == other.depth

    def __call__(self, value):
        return max([value, self.depth], key=lambda one: one)

    def __iter__(self):
        yield from range(self.depth + 2)

    def __contains__(self, value):
        return any(map(functools.partial(operator.eq, value), self))


class Finaliser:
    def __init__(self, inner):
        self.inner = inner

    def __del__(self):
        descend(2)


def descend(depth):
    """Each level by another way through C."""
    if depth <= 0:
        return len(str(depth) * 3)
    ways = (
        lambda: sorted([3, 1, 2], key=lambda one: one + descend(depth - 1))[0],
        lambda: list(map(lambda one: descend(depth - 1) + one, [1, 2]))[0],
        lambda: functools.reduce(lambda one, other: one + descend(depth - 1), [1, 2, 3]),
        lambda: sum(descend(depth - 1) for _ in range(2)),
        lambda: next(filter(lambda one: descend(depth - 1), itertools.count())),
        lambda: operator.call(Slots(depth), descend(depth - 1)),
        lambda: eval("descend(depth - 1)", {"descend": descend, "depth": depth}),
        lambda: len({Slots(depth): 1, Slots(depth): 2}) + getattr(Slots(depth), "missing"),
    )
    return ways[depth % len(ways)]()


def calls():
    for depth in range(11):
        descend(depth)


def objects():
    nested = functools.reduce(lambda inner, number: Finaliser(inner), range(20), None)
    del nested
    loop = Finaliser(None)
    loop.inner = loop
    del loop
    gc.collect(0)
    copy.deepcopy([[{"a": [Slots.__init__, (1, [2, [3]])]}] for _ in range(10)])
    sorted((Slots(number) for number in (3, 1, 2)), key=lambda slots: 5 in slots)


async def child(depth):
    if depth == 0:
        await asyncio.sleep(0)
        return descend(3)
    return await child(depth - 1)


async def tree():
    await asyncio.gather(*(child(depth) for depth in range(8)))


forever.run(calls, objects, lambda: asyncio.run(tree()))
