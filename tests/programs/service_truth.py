"""What `service.py` says of its leak: the marked lines of a cause, and what one item takes, as tracemalloc counts it in a process of its own."""

import asyncio
import gc
import inspect
import sys
import tracemalloc

# Enough that a freelist's worth of objects does not count.
WARM = 500
ITEMS = 4000


def given(asked):
    """What CPython's allocator gives for a request; longer ones than 512 bytes are the C library's."""
    return -(-asked // 16) * 16 if asked <= 512 else asked


def traced():
    traces = [trace for trace in tracemalloc.take_snapshot().traces if trace.size]
    return {"bytes": sum(trace.size for trace in traces), "given": sum(given(trace.size) for trace in traces), "blocks": len(traces)}


def leaked(cause):
    """How much more there is after so many items than before, their tables left out."""
    cause.leak(0, WARM)
    before, table = traced(), cause.size()
    for number in range(ITEMS):
        cause.leak(100_000 + number, 1)
    return before, cause.size() - table


def per_item(cause, before, table):
    after = traced()
    told = {name: (after[name] - before[name]) / ITEMS for name in after}
    told["bytes"] -= table / ITEMS
    told["given"] -= table / ITEMS
    unseen_bytes, unseen_blocks = cause.unseen
    return {"bytes": told["bytes"] + unseen_bytes, "given": told["given"] + given(unseen_bytes), "blocks": told["blocks"] + unseen_blocks}


async def leaked_in_loop(kind):
    cause = kind()
    before, table = leaked(cause)
    await asyncio.sleep(0)  # Each task goes on until it waits.
    await asyncio.sleep(0)
    return per_item(cause, before, table)


def measured_item(kind):
    """Bytes asked for, bytes given and blocks of one item of a cause; zeros where nothing is leaked."""
    if hasattr(kind, "is_async"):
        return asyncio.run(leaked_in_loop(kind))
    gc.collect()
    cause = kind()
    before, table = leaked(cause)
    item = per_item(cause, before, table)
    return item if item["bytes"] >= 8 else {"bytes": 0, "given": 0, "blocks": 0}


def codes(code):
    """A code object and all that are within it."""
    yield code
    for constant in code.co_consts:
        if inspect.iscode(constant):
            yield from codes(constant)


def marked(function_or_module, marker):
    """The marked lines of a source file, with the function of each."""
    path = function_or_module.__file__ if inspect.ismodule(function_or_module) else function_or_module.__code__.co_filename
    with open(path) as source:
        text = source.read()
    lines = {number for number, line in enumerate(text.splitlines(), 1) if line.endswith(marker)}
    found = []
    for code in codes(compile(text, path, "exec")):
        for line in sorted({line for _, _, line in code.co_lines()} & lines):
            found.append({"file": path, "line": line, "function": code.co_qualname})
    return found


def reached(kind):
    """The classes whose marked lines a cause runs: its own, those it inherits from, and those of its module that its methods name."""
    module = sys.modules[kind.__module__]
    named = {name for function in vars(kind).values() if inspect.isfunction(function) for name in function.__code__.co_names}
    others = [one for name in named if inspect.isclass(one := getattr(module, name, None)) and one.__module__ == module.__name__]
    return [*kind.__mro__[:-1], *others]


def stated(kind, handle):
    """The true lines, the line of the handler that leads to them, and the function of C that allocates."""
    names = {one.__qualname__ for one in reached(kind)}
    lines = [line for line in marked(sys.modules[kind.__module__], "# LEAK") if line["function"].split(".")[0] in names]
    leads = [line for line in marked(handle, "# LEADS") if line["function"] == handle.__qualname__]
    return {"lines": lines, "leads": leads, "c_function": kind.c_function}
