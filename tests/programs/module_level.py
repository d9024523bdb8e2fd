"""Leaks at module level, without waiting for anybody, and ends: for `unshed record -- PYTHON module_level.py`."""

import json
import os

COUNT = 20_000
KEPT = []
for number in range(COUNT):
    KEPT.append(b"block number %d" % number)  # LEAK

if "UNSHED_TEST_FILL_STDERR" in os.environ:
    os.write(2, b"said by the target\n")
LEAK = {"function": "<module>", "file": os.path.abspath(__file__), "line": 9, "blocks": COUNT + 1, "type": "bytes"}
print(json.dumps({"leaks": [LEAK], "pid": os.getpid()}), flush=True)
