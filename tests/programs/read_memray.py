"""Prints what memray recorded and was never freed, largest first, for `cargo xtask bench accuracy`: `read_memray.py FILE`, by a Python that has memray."""

import json
import os
import sys

import memray


def frame(name, path, line):
    """A frame as our own reports have it, so that the same rules judge both."""
    module = "leaks.so" if os.path.basename(path) == "leaks.c" else None
    return {"function": name, "file": path, "line": line, "module": module}


def main():
    with memray.FileReader(sys.argv[1]) as reader:
        records = list(reader.get_leaked_allocation_records(merge_threads=True))
        has_native = reader.metadata.has_native_traces
        rows = {}
        for record in records:
            stack = record.hybrid_stack_trace() if has_native else record.stack_trace()
            rows[tuple(stack)] = rows.get(tuple(stack), 0) + record.size
    ordered = sorted(rows.items(), key=lambda row: -row[1])
    print(json.dumps([{"bytes": size, "frames": [frame(*each) for each in stack]} for stack, size in ordered[:1000]]))


main()
