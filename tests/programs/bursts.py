"""Bursts: `go N` leaks in N bursts of a millisecond, each of thousands of allocations as dense as CPython makes them, with rests of thirty milliseconds between, in which nothing happens.

Windows that begin in a rest see the beginning of a burst; what they say of the rest of it hangs on how well the pace of the allocations is known.
"""

import time

import stage

BURST = 5_000
REST = 0.03
KEPT = []


def leak(number):
    KEPT.append(b"block number %06d" % number)  # LEAK


def go(bursts):
    for _ in range(bursts):
        for number in range(BURST):
            leak(number)
            b"churn %d" % number
        time.sleep(REST)
    return stage.truth(stage.leak(stage.mark(leak), len(KEPT), type="bytes"))


stage.serve(go=go)
