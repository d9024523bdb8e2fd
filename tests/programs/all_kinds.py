"""Honest churn with objects of all kinds that CPython has: all that is made is let go again."""

import array
import asyncio
import collections
import contextvars
import datetime
import decimal
import fractions
import functools
import gc
import io
import itertools
import json
import random
import re
import struct
import threading
import types
import weakref

import stage

COUNT = 2_000
ROUNDS = 20  # So few at a time that the freelists hold what is freed and are full before anybody looks.
WORDS = re.compile(r"(\w+) (\d+)")


class Plain:
    def __init__(self, number):
        self.number = number
        self.name = "plain %d" % number

    def method(self):
        return self.number


class Slotted:
    __slots__ = ("number", "me", "__weakref__")

    def __init__(self, number):
        self.number = number * 1.5
        self.me = self  # A cycle: only the collector frees it.


def numbers(number):
    return [
        number * 1000,
        number << 200,
        number * 0.5,
        complex(number, number),
        decimal.Decimal(number) / 7,
        fractions.Fraction(number, 7),
        number % 7 == 3,
    ]


def texts(number):
    return [
        "ascii %d" % number,
        "latin \xe9 %d" % number,
        "wide \u20ac %d" % number,
        "widest \U0001f40d %d" % number,
        "long " * (number % 300),
        b"bytes %d" % number,
        bytes(number % 2000),
        bytearray(number % 900),
        memoryview(b"bytes %d" % number)[2:],
        array.array("d", range(number % 50)),
        struct.pack("<dQ", number, number),
        "a b c d".split() * 3,
        f"{number:>12,} and {number!r}",
    ]


def containers(number):
    some = range(number % 40)
    grown = []
    for each in range(number % 200):
        grown.append(each)
    return [
        grown,
        tuple(some),
        {each * 1000: str(each) for each in some},
        set(map(str, some)),
        frozenset(some),
        collections.deque(range(number % 300), maxlen=100),
        collections.OrderedDict.fromkeys(some),
        collections.Counter("hello %d" % number),
        collections.defaultdict(list, {number: [number]}),
        types.SimpleNamespace(number=number, name="space"),
        slice(number, number + 1000),
        dict(zip(map(str, some), itertools.count(number))),
        [[each] for each in some],
    ]


def generate(number):
    for each in range(number % 20):
        yield each * 1000


async def wait(number):
    await asyncio.sleep(number)


def callables(number):
    plain = Plain(number)
    generator = generate(number + 1)
    next(generator, None)
    coroutine = wait(number)
    coroutine.close()
    return [
        plain,
        Slotted(number),
        plain.method,
        weakref.ref(plain),
        weakref.WeakValueDictionary(plain=plain),
        lambda more=number: more + number,
        functools.partial(Plain, number),
        property(Plain.method),
        iter([number]),
        zip("ab", enumerate("cd")),
        generator,
        coroutine,
    ]


def fail(number):
    raise LookupError("number %d is not there" % number)


def machinery(number):
    try:
        fail(number)
    except LookupError as error:
        caught = error  # With its traceback and the frames.
    return [
        caught,
        type("Made%d" % number, (Plain,), {"extra": number}),
        types.ModuleType("module%d" % number),
        compile("def made(x): return x + %d" % number, "<made>", "exec"),
        WORDS.match("number %d" % number),
        datetime.datetime(2000, 1, 1) + datetime.timedelta(minutes=number),
        io.StringIO("text %d" % number),
        io.BytesIO(b"bytes" * (number % 300)),
        threading.Lock(),
        contextvars.copy_context(),
        random.Random(number),
        json.loads(json.dumps({"number": number, "list": [number * 0.5, None, "text"]})),
    ]


KINDS = [numbers, texts, containers, callables, machinery]


def day(count):
    kept = []
    for number in range(count):
        kept.append(KINDS[number % len(KINDS)](number))
    kept.clear()
    gc.collect()


def go():
    for _ in range(ROUNDS):
        day(COUNT // ROUNDS)
    return stage.truth(churned=COUNT)


day(COUNT // ROUNDS)
day(COUNT // ROUNDS)
stage.serve(go=go)
