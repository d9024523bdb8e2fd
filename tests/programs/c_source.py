"""What C source says of itself: the functions and lines of its marked lines, so that no test has to know a number.

A marker is a comment with a kind and a name: `/* LEAK dict inlined */`. Functions begin in the first column."""

import os
import re

import stage

NAMELESS = "?"  # A function of the interpreter that has no symbol.
MARKER = re.compile(r"/\* (LEAK|CALL|RUN) ([\w ]+?) \*/")
ATTRIBUTE = re.compile(r"__attribute__\(\(.*?\)\) ?")
FUNCTION = re.compile(r"(?:\w[^;=(]*?[\s*])?([\w:~]+)\(")


class Source:
    """The marked lines of a file of `ext/`."""

    def __init__(self, name, within=""):
        """`within` is the namespace of its functions, with the colons."""
        self.within = within
        self.module = name.rpartition(".")[0] + ".so"
        self.path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "ext", name)
        self.marks = {}
        function = None
        with open(self.path) as source:
            for number, line in enumerate(source, 1):
                begun = FUNCTION.match(ATTRIBUTE.sub("", line))
                function = begun.group(1) if begun else function
                for mark in MARKER.findall(line):
                    if mark in self.marks:
                        raise SystemExit(f"{self.path}:{number}: a second {mark}")
                    self.marks[mark] = (function, number)

    def frame(self, kind, name, inlined=False):
        """The frame of a marked line, as a report should show it."""
        function, line = self.marks[kind, name]
        function = self.within + function
        place = {"file": self.path, "line": line, "module": self.module}
        return {"kind": "native", "function": function, **place, "inlined": inlined}

    def leak(self, name):
        """The frames of a leak, innermost first: the helper, and the function that runs it."""
        return [self.frame("LEAK", name, inlined=name.endswith(" inlined")), self.frame("CALL", name)]


def python_frame(place, direct=False):
    """The frame of a Python line: what `stage.mark` gives, or a function of one line. It is `direct` if it called the frame before it
    without any C in between."""
    if callable(place):
        code = place.__code__
        place = {"function": stage.name(code), "file": code.co_filename, "line": code.co_firstlineno}
    return {"kind": "python", **place, "module": None, "inlined": False, "direct": direct}


def row(name, stack, blocks, size, above=None):
    """One leak: its frames from the leaking one outward, its blocks, and the interpreter's function that it called for them."""
    return {"name": name, "stack": stack, "blocks": blocks, "bytes": blocks * size, "above": above}


def lines(rows):
    """The same leaks by Python line, as tracemalloc counts them, too; it knows nothing of `malloc`."""
    sizes = {}
    for each in rows:
        python = [frame for frame in each["stack"] if frame["kind"] == "python"]
        if python and not each["name"].startswith(("malloc", "new")):
            place = tuple(python[0][key] for key in ("function", "file", "line"))
            size = each["bytes"] // each["blocks"]
            counts = sizes.setdefault(place, {})
            counts[size] = counts.get(size, 0) + each["blocks"]
    return [stage.leak(dict(zip(("function", "file", "line"), place)), sizes=counts) for place, counts in sizes.items()]
