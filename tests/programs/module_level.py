"""Leaks at module level, without waiting for anybody, and ends: for `unshed record -- PYTHON module_level.py`.

All of the interpreter's start is traced with it, so hardly anything is imported, not even `json`.
"""

import os

COUNT = 20_000
KEPT = []
for number in range(COUNT):
    KEPT.append(b"block number %d" % number)  # LEAK

if "UNSHED_TEST_FILL_STDERR" in os.environ:
    os.write(2, b"said by the target\n")
LEAK = '{"function": "<module>", "file": "%s", "line": 11, "blocks": %d, "type": "bytes"}' % (os.path.abspath(__file__), COUNT + 1)
print('{"leaks": [%s], "pid": %d}' % (LEAK, os.getpid()), flush=True)
