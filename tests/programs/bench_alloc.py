"""An allocation-heavy workload for `cargo xtask bench`: hardly anything but taking and giving back memory.

On `run SECONDS` it works for so many seconds of its own CPU time and prints {"work": rounds, "cpu_seconds": used}.
"""

import json
import os
import sys
import time


class Node:
    def __init__(self, value, next):
        self.value = value
        self.next = next


def unit():
    """One round of work, well under a millisecond."""
    head = None
    for number in range(200):
        head = Node(number * 1000, head)
    texts = [str(number + 1_000_000) for number in range(200)]
    table = {text: [text] for text in texts}
    total = 0
    while head is not None:
        total += head.value
        head = head.next
    return total + len(table)


def run(seconds):
    start = time.process_time()
    work = 0
    while True:
        unit()
        work += 1
        used = time.process_time() - start
        if used >= seconds:
            return {"work": work, "cpu_seconds": used}


def main():
    for _ in range(50):
        unit()
    print("READY", os.getpid(), flush=True)
    for line in sys.stdin:
        words = line.split()
        if words[:1] != ["run"]:
            return
        print(json.dumps(run(float(words[1]))), flush=True)


if __name__ == "__main__":
    main()
