"""A workload like a web service's for `cargo xtask bench`: parse, look up, compute, render, compress.

On `run SECONDS` it works for so many seconds of its own CPU time and prints {"work": rounds, "cpu_seconds": used}.
"""

import hashlib
import json
import os
import re
import sys
import time
import zlib

ROUTE = re.compile(r"/(?P<area>[a-z]+)/(?P<id>\d+)(?:\?(?P<query>.*))?$")
CATALOGUE = {number: {"name": f"article {number}", "price": number * 1.25, "stock": number % 17} for number in range(500)}
PAGE = "<html><head><title>{title}</title></head><body><table>{rows}</table><p>{digest}</p></body></html>"
ROW = "<tr><td>{name}</td><td>{price:.2f}</td><td>{stock}</td></tr>"


def route(path):
    match = ROUTE.match(path)
    query = dict(pair.split("=") for pair in match["query"].split("&"))
    return match["area"], int(match["id"]), query


def search(first, query):
    limit = int(query["limit"])
    rows = [CATALOGUE[(first + step * 7) % 500] for step in range(limit)]
    return sorted(rows, key=lambda row: (-row["stock"], row["price"]))


def unit(number):
    """One request, from its bytes to the bytes of the answer."""
    area, first, query = route(f"/shop/{number % 500}?limit=40&sort=price&page={number % 9}")
    body = json.loads(json.dumps({"user": number, "filter": query, "path": [area, first]}))
    rows = search(first, body["filter"])
    text = json.dumps(rows)
    digest = hashlib.sha256(text.encode()).hexdigest()
    page = PAGE.format(title=area, rows="".join(ROW.format(**row) for row in rows), digest=digest)
    return zlib.compress(page.encode(), 1)


def run(seconds):
    start = time.process_time()
    work = 0
    while True:
        unit(work)
        work += 1
        used = time.process_time() - start
        if used >= seconds:
            return {"work": work, "cpu_seconds": used}


def main():
    for number in range(100):
        unit(number)
    print("READY", os.getpid(), flush=True)
    for line in sys.stdin:
        words = line.split()
        if words[:1] != ["run"]:
            return
        print(json.dumps(run(float(words[1]))), flush=True)


if __name__ == "__main__":
    main()
