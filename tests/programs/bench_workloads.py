"""The workloads of `cargo xtask bench`, in one table: `bench_workloads.py NAME [DEPTH]`.

On `run SECONDS` it works for so many seconds of its own CPU time and prints {"work": units, "cpu_seconds": used}. A unit
is well under a millisecond untraced: a tracer that costs 400 times as much must still end its run soon after the time.
"""

import functools
import io
import json
import os
import string
import sys
import time

# --- json: parse a document, change it, write it again -----------------------------------------------------------------

DOCUMENT = json.dumps(
    {
        "page": 3,
        "next": "/orders?page=4",
        "orders": [
            {
                "id": 100_000 + number,
                "customer": {"name": f"customer {number}", "mail": f"c{number}@example.org", "vip": number % 7 == 0},
                "lines": [{"article": f"A-{line}", "count": line + 1, "price": 9.95 * line} for line in range(4)],
                "total": 59.7 + number,
                "note": None,
            }
            for number in range(12)
        ],
    }
)


def json_churn(number):
    document = json.loads(DOCUMENT)
    for order in document["orders"]:
        order["total"] *= 1.19
        order["note"] = f"seen {number}"
    return len(json.dumps(document))


# --- class: instances with attributes, made and dropped ----------------------------------------------------------------


class Point:
    def __init__(self, x, y):
        self.x = x
        self.y = y

    def moved(self, dx, dy):
        return Point(self.x + dx, self.y + dy)


class Tracked:
    def __init__(self, name, at):
        self.name = name
        self.at = at
        self.history = [at]
        self.tags = {"name": name}

    def step(self, by):
        self.at = self.at.moved(by, -by)
        self.history.append(self.at)


def class_churn(number):
    total = 0.0
    for index in range(60):
        tracked = Tracked(index, Point(index * 1.5, number * 0.5))
        for by in range(4):
            tracked.step(by * 0.25)
        total += tracked.at.x + len(tracked.history)
    return total


# --- template: a table of HTML by formatting, escaping and joining -------------------------------------------------------

PAGE = string.Template("<html><head><title>$title</title></head><body><h1>$title</h1>$table</body></html>")
ROWS = [
    {"name": f"Müller & Söhne <{number}>", "price": number * 1.37, "stock": number * 13, "tags": ["new", "sale", "x & y"]}
    for number in range(40)
]


def escaped(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def template(number):
    parts = []
    for index, row in enumerate(ROWS):
        parts.append('<tr class="%s">' % ("even" if index % 2 else "odd"))
        parts.append(f"<td>{escaped(row['name'])}</td><td>{row['price']:.2f}</td>")
        parts.append("<td>{stock:>6}</td><td>{tags}</td>".format(stock=row["stock"], tags=", ".join(map(escaped, row["tags"]))))
        parts.append("</tr>\n")
    return len(PAGE.substitute(title=f"page {number}", table="<table>" + "".join(parts) + "</table>").encode())


# --- http: a WSGI server's request without its socket ------------------------------------------------------------------

REQUESTS = [
    (
        f"{method} {path}?limit=10&offset={number}&q=a%20b HTTP/1.1\r\nHost: shop.example.org\r\nUser-Agent: bench/1.0\r\n"
        f"Accept: text/html,application/json;q=0.9\r\nCookie: session={number:032x}; theme=dark\r\n"
        f"Content-Length: {len(body)}\r\nX-Request-Id: {number}\r\n\r\n{body}"
    ).encode()
    for number, (method, path, body) in enumerate(
        [("GET", "/", ""), ("GET", "/articles/17", ""), ("POST", "/basket", "article=17&count=2&gift=yes"), ("GET", "/nowhere", "")]
    )
]


def unquoted(text):
    first, *rest = text.replace("+", " ").split("%")
    return first + "".join(chr(int(part[:2], 16)) + part[2:] for part in rest)


def fields(text):
    return {unquoted(key): unquoted(value) for key, _, value in (pair.partition("=") for pair in text.split("&") if pair)}


def parsed(raw):
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, version = first.split(" ")
    path, _, query = target.partition("?")
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query, "SERVER_PROTOCOL": version}
    for line in lines:
        name, _, value = line.partition(":")
        environ["HTTP_" + name.strip().upper().replace("-", "_")] = value.strip()
    environ["wsgi.input"] = io.BytesIO(body)
    return environ


def index(environ, query):
    return "200 OK", f"<h1>{environ['HTTP_HOST']}</h1><p>{query['q']}</p>"


def article(environ, query):
    number = environ["PATH_INFO"].rsplit("/", 1)[1]
    return "200 OK", "".join(f"<li>{number}.{part}</li>" for part in range(int(query["limit"])))


def basket(environ, query):
    posted = fields(environ["wsgi.input"].read(int(environ["HTTP_CONTENT_LENGTH"])).decode())
    return "303 See Other", json.dumps({"basket": posted, "offset": query["offset"]})


ROUTES = [("GET", "/articles/", article), ("POST", "/basket", basket), ("GET", "/", index)]


def application(environ, start_response):
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    query = fields(environ["QUERY_STRING"])
    for wanted, prefix, view in ROUTES:
        if method == wanted and (path == prefix or (prefix != "/" and path.startswith(prefix))):
            status, text = view(environ, query)
            break
    else:
        status, text = "404 Not Found", "there is no " + path
    body = text.encode()
    start_response(status, [("Content-Type", "text/html"), ("Content-Length", str(len(body))), ("Set-Cookie", environ["HTTP_COOKIE"])])
    return [body]


def http(number):
    """Four requests, from their bytes to the bytes of the answers."""
    sent = 0
    for raw in REQUESTS:
        head = []

        def start_response(status, headers):
            head.append("HTTP/1.1 " + status)
            head.extend(f"{name}: {value}" for name, value in headers)

        body = application(parsed(raw), start_response)
        sent += len("\r\n".join(head).encode() + b"\r\n\r\n" + b"".join(body))
    return sent


# --- dictlist: containers that grow, are copied, sorted and dropped ------------------------------------------------------


def dicts(number):
    counts = {}
    for key in range(150):
        counts[f"key {key * 7 % 90}"] = counts.get(f"key {key * 7 % 90}", number) + 1000
    turned = {value + index: key for index, (key, value) in enumerate(counts.items())}
    merged = {**counts, **{key: value * 2 for value, key in turned.items()}}
    groups = {}
    for key, value in merged.items():
        groups.setdefault(value % 9, []).append((key, value))
    return len(groups) + len(merged)


def lists(number):
    rows = [[number + 1000 * column, column * 0.5, (column, number)] for column in range(80)]
    rows.sort(key=lambda row: -row[1])
    flat = [cell for row in rows for cell in row[:2]]
    grown = []
    for first, second in zip(flat, flat[1:]):
        grown.append(first + second)
    return len(grown[::2]) + len([row[:] for row in rows])


def dictlist(number):
    return dicts(number) + lists(number)


# --- depth N: allocations at the end of a stack of N Python frames -------------------------------------------------------


def text_of(number):
    return str(number)


def dive(left, number):
    """Goes down until `left` is 1, then churns there: three sites, one of them a frame further down."""
    if left > 1:
        return dive(left - 1, number)
    total = 0
    for index in range(100_000, 100_100):
        first = str(index)
        second = index * 1.5
        total += len(first) + second + len(text_of(number + index))
    return total


def frames():
    """How many Python frames stand on the stack, the caller's included."""
    frame, count = sys._getframe(1), 0
    while frame is not None:
        frame, count = frame.f_back, count + 1
    return count


def at_depth(wanted):
    def unit(number):
        # The frames that stand here now are part of the stack.
        return dive(wanted - frames(), number)

    return unit


# --- falls N: the same under N calls from Python to C and back to Python --------------------------------------------------


def fall(left, number):
    """Each turn is five or six C frames: the evaluator, what calls `reduce`, and what calls back."""
    if left > 1:
        return functools.reduce(fall, (number,), left - 1)
    return dive(1, number)


def falls(turns):
    return lambda number: fall(turns, number)


# ----------------------------------------------------------------------------------------------------------------------

WORKLOADS = {
    "json": json_churn,
    "class": class_churn,
    "template": template,
    "http": http,
    "dictlist": dictlist,
}


def run(unit, seconds):
    start = time.process_time()
    work = 0
    while True:
        unit(work)
        work += 1
        used = time.process_time() - start
        if used >= seconds:
            return {"work": work, "cpu_seconds": used}


def main():
    name, *depth = sys.argv[1:]
    made = {"depth": at_depth, "falls": falls}
    unit = made[name](int(depth[0])) if name in made else WORKLOADS[name]
    for number in range(50):
        unit(number)
    print("READY", os.getpid(), flush=True)
    for line in sys.stdin:
        words = line.split()
        if words[:1] != ["run"]:
            return
        print(json.dumps(run(unit, float(words[1]))), flush=True)


if __name__ == "__main__":
    main()
