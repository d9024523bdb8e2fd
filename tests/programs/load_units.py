"""The units of work of `load.py`: a table of functions that take a number, and how often one is done to last about half a millisecond."""

import asyncio
import importlib.util
import math
import os

import bench_workloads

# --- floats: a loop that makes and drops a float in each step -----------------------------------------------------------


def float_loop(number):
    x, y, total = 0.5 + number % 7, 1.5, 0.0
    for step in range(1500):
        x, y = y * 0.99 + 0.01, x * 1.01 - 0.02
        total += math.sqrt(x * x + y * y) / (step + 1.0)
    return total


# --- strings: pieces that are cut, changed and joined ----------------------------------------------------------------------

TEXT = " ".join(f"word{number * 7919 % 1000} of the {number}th sentence," for number in range(60))


def strings(number):
    words = [word.strip(",").title() for word in TEXT.split(" ")]
    lines = []
    for start in range(0, len(words), 8):
        line = " ".join(words[start : start + 8])
        lines.append(f"{number + start:06d} {line:<60} {len(line):>4}")
    page = "\n".join(lines)
    for old, new in (("Sentence", "phrase"), ("Of", "from"), ("1", "one")):
        page = page.replace(old, new)
    built = ""
    for word in words:
        built += word[:3] + "-"
    return len(page.encode()) + len(built.upper())


# --- generators and coroutines --------------------------------------------------------------------------------------------


def numbers(first, count):
    for number in range(first, first + count):
        yield number * 1000


def pairs(source):
    for number in source:
        yield number, str(number)


def generators(number):
    total = 0
    for first in range(0, 300, 20):
        total += sum(len(text) for value, text in pairs(numbers(first + number, 20)) if value % 3)
    return total


async def answer(queue, number):
    item = await queue.get()
    await asyncio.sleep(0)
    return {"item": item, "by": number}


async def conversation(number):
    queue = asyncio.Queue()
    workers = [asyncio.ensure_future(answer(queue, worker)) for worker in range(10)]
    for item in range(10):
        queue.put_nowait((number, item))
    return len(await asyncio.gather(*workers))


def coroutines():
    loop = asyncio.new_event_loop()
    return lambda number: loop.run_until_complete(conversation(number))


# --- programs of pyperformance, in smaller pieces than there ----------------------------------------------------------------


def of_pyperformance(name, folder):
    """The module of one of its programs; `folder` holds them."""
    path = os.path.join(folder, "bm_" + name, "run_benchmark.py")
    spec = importlib.util.spec_from_file_location("bm_" + name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def chaos(folder):
    module = of_pyperformance("chaos", folder)
    corners = [(1.6, 3.3), (1.58, 4.07), (1.1, 3.0), (0.9, 2.2)], [(2.8, 3.5), (2.6, 2.9), (3.2, 2.1), (3.0, 3.1)]
    splines = [module.Spline([module.GVector(x, y, 0) for x, y in four], 3, [0, 0, 0, 1, 1, 1]) for four in corners]
    game = module.Chaosgame(splines, 0.25)
    return lambda number: [game.transform_point(module.GVector(1.5, 2.5, 0)) for _ in range(40)]


def deltablue(folder):
    module = of_pyperformance("deltablue", folder)
    return lambda number: module.delta_blue(12)


def raytrace(folder):
    module = of_pyperformance("raytrace", folder)
    return lambda number: module.bench_raytrace(1, 2, 2, None)


def richards(folder):
    """This one is all or nothing: a unit takes some 40 ms."""
    module = of_pyperformance("richards", folder)
    program = module.Richards()
    return lambda number: program.run(1)


# ----------------------------------------------------------------------------------------------------------------------------

PLAIN = {
    "json": (bench_workloads.json_churn, 5),
    "class": (bench_workloads.class_churn, 5),
    "template": (bench_workloads.template, 5),
    "dictlist": (bench_workloads.dictlist, 5),
    "float": (float_loop, 2),
    "strings": (strings, 5),
    "generators": (generators, 8),
}
MADE = {"coroutines": (coroutines, 5), "chaos": (chaos, 1), "deltablue": (deltablue, 1), "raytrace": (raytrace, 4), "richards": (richards, 1)}


def repeated(once, times):
    def unit(number):
        for _ in range(times):
            once(number)

    return unit if times > 1 else once


def of(name, arguments):
    """The unit of a name; those of pyperformance want the folder of its programs as their argument."""
    if name in PLAIN:
        return repeated(*PLAIN[name])
    make, times = MADE[name]
    return repeated(make(*arguments), times)
