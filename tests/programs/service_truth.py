"""What `service.py` says of its leak: the marked lines of a cause, and what one item takes, as tracemalloc counts it in a process of its own."""

import asyncio
import gc
import inspect
import sys
import tracemalloc

# Enough that a freelist's worth of objects does not count.
WARM = 500
ITEMS = 4000
# Frames, enough to reach a marked line from what it calls.
DEPTH = 25


def given(asked):
    """What CPython's allocator gives for a request; longer ones than 512 bytes are the C library's."""
    return -(-asked // 16) * 16 if asked <= 512 else asked


def traced(lines):
    """What lives of what the marked lines have allocated, by themselves or by what they call."""
    of_ours = [trace for trace in tracemalloc.take_snapshot().traces if any((frame.filename, frame.lineno) in lines for frame in trace.traceback)]
    traces = [trace for trace in of_ours if trace.size]
    return {"bytes": sum(trace.size for trace in traces), "given": sum(given(trace.size) for trace in traces), "blocks": len(traces)}


def leaked(cause, lines, first, count):
    """Leaks so many items; then what lives of the cause, and the bytes of its tables."""
    for number in range(count):
        cause.leak(first + number, 1)
    return traced(lines), cause.size()


async def leaked_in_loop(cause, lines, first, count):
    """The same, where each item is a task, which goes on until it waits before it counts."""
    leaked(cause, lines, first, count)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return traced(lines), cause.size()


async def both_in_loop(kind, lines):
    cause = kind()
    return cause, await leaked_in_loop(cause, lines, 0, WARM), await leaked_in_loop(cause, lines, 100_000, ITEMS)


def both(kind, lines):
    cause = kind()
    return cause, leaked(cause, lines, 0, WARM), leaked(cause, lines, 100_000, ITEMS)


def measured_item(kind):
    """Bytes asked for, bytes given and blocks of one item of a cause; zeros where nothing is leaked."""
    module = sys.modules[kind.__module__]
    lines = {(module.__file__, line["line"]) for line in marked(module, "# LEAK")}
    gc.collect()
    tracemalloc.start(DEPTH)
    cause, (before, table_before), (after, table) = asyncio.run(both_in_loop(kind, lines)) if hasattr(kind, "is_async") else both(kind, lines)
    item = {name: (after[name] - before[name]) / ITEMS for name in after}
    for name in ("bytes", "given"):
        item[name] -= (table - table_before) / ITEMS
    unseen_bytes, unseen_blocks = cause.unseen
    item = {"bytes": item["bytes"] + unseen_bytes, "given": item["given"] + given(unseen_bytes), "blocks": item["blocks"] + unseen_blocks}
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


def lines_of(function):
    """All lines of a function."""
    return [{"file": function.__code__.co_filename, "line": line} for line in sorted({line for _, _, line in function.__code__.co_lines() if line})]


def stated(kind, handle):
    """The true lines, the function of C that allocates, and lines beside: what the interpreter allocates there for the leak, and keeps, when no true line runs (the line of the handler that leads to them makes
    the frame object that a stored traceback keeps; `--exact` counts one for each item). They are no place to look for a leak, and no innocent one either."""
    names = {one.__qualname__ for one in reached(kind)}
    lines = [line for line in marked(sys.modules[kind.__module__], "# LEAK") if line["function"].split(".")[0] in names]
    beside = [line for line in marked(handle, "# LEADS") if line["function"] == handle.__qualname__]
    for function in kind.beside:
        beside += lines_of(function)
    return {"lines": lines, "beside": beside, "c_function": kind.c_function}
