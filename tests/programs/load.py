"""The workloads of `cargo xtask bench overhead`: `load.py NAME [ARGUMENTS]`, small units of work in one process that is measured in phases.

It prints `READY PID`. On `measure PHASE SECONDS` it works for so many seconds by the clock and answers with one line of JSON: the units done,
the CPU that the process took for them, and how long single units lasted (`wall_ms`) and how much CPU they took (`steady_cpu_seconds`). A
line that it does not know, or the end of stdin, ends it.

A unit lasts about half a millisecond, so that a stall of a few milliseconds is seen in it.
"""

import array
import json
import os
import sys
import time

import load_units

# A machine that is shared slows all units down for a while. Within this many seconds of CPU it does so alike.
BLOCK_NS = 50_000_000


def percentile(ordered, share):
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def latencies(walls_ns):
    """What is told of the durations of units, in milliseconds, and how long after the first one's beginning the longest one began."""
    ordered = sorted(walls_ns)
    longest = walls_ns.index(ordered[-1])
    told = {name: percentile(ordered, share) / 1e6 for name, share in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999))}
    return {**told, "max": ordered[-1] / 1e6, "longest_at_seconds": sum(walls_ns[:longest]) / 1e9}


def steady(cpus_ns):
    """The CPU that the units would have taken if each had been like the median of its neighbours: the difference to what they took is what single
    units paid beyond the others, be it for a collection, an interrupt or a probe. How fast the machine is falls out."""
    total, block, used = 0.0, [], 0
    for cpu in cpus_ns:
        block.append(cpu)
        used += cpu
        if used >= BLOCK_NS:
            total += len(block) * percentile(sorted(block), 0.5)
            block, used = [], 0
    if block:
        total += len(block) * percentile(sorted(block), 0.5)
    return total / 1e9


def measure(unit, seconds):
    """Works for so long in this thread, and says how it went."""
    wall, cpu = time.perf_counter_ns, time.thread_time_ns
    walls, cpus = array.array("q"), array.array("q")
    used = time.process_time()
    began = before = wall()
    cpu_before = cpu()
    end = began + int(seconds * 1e9)
    number = 0
    while before < end:
        unit(number)
        number += 1
        cpu_now, now = cpu(), wall()
        walls.append(now - before)
        cpus.append(cpu_now - cpu_before)
        before, cpu_before = now, cpu_now
    used = time.process_time() - used
    told = {"units": number, "cpu_seconds": used, "wall_seconds": (before - began) / 1e9}
    return {**told, "steady_cpu_seconds": steady(cpus), "unit_cpu_seconds": sum(cpus) / 1e9, "wall_ms": latencies(walls)}


def serve(work):
    """Obeys until it is told something else than to measure; `work` measures for so many seconds."""
    work(0.3)  # Caches, freelists and arenas as they will be.
    print("READY", os.getpid(), flush=True)
    for line in sys.stdin:
        words = line.split()
        if words[:1] != ["measure"] or len(words) != 3:
            return
        print(json.dumps({"phase": words[1], **work(float(words[2]))}), flush=True)


def main():
    name, *arguments = sys.argv[1:]
    unit = load_units.of(name, arguments)
    serve(lambda seconds: measure(unit, seconds))


if __name__ == "__main__":
    main()
