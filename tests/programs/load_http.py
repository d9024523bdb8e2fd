"""A web server for `cargo xtask bench overhead` that a client in another process asks as fast as it answers; the protocol is that of `load.py`.

The units are requests, counted and timed by the client, so that a unit lasts as long as somebody waits for it. The CPU is the server's.
"""

import array
import http.client
import http.server
import json
import subprocess
import sys
import threading
import time
import urllib.parse

import load

CLIENT = "client"
CATALOGUE = [{"name": f"article {number}", "price": number * 1.25, "tags": ["new", "sale"]} for number in range(200)]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # Head and body in one packet: or the client's delayed acknowledgement is what is measured.

    def do_POST(self):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        first = int(query["first"][0])
        rows = [{**CATALOGUE[(first + step) % 200], "count": count} for step, count in enumerate(order["counts"])]
        body = json.dumps({"user": order["user"], "rows": rows, "total": sum(row["price"] * row["count"] for row in rows)}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


def ask(connection, number):
    body = json.dumps({"user": f"user {number % 900}", "counts": [(number + step) % 5 for step in range(8)]})
    connection.request("POST", f"/orders?first={number % 200}&lang=en", body)
    response = connection.getresponse()
    if response.status != 200 or not response.read():
        raise SystemExit(f"the server answered with {response.status}")


def client(port):
    """Asks for as many seconds as each line of stdin says; answers with what it saw."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    number = 0
    for line in sys.stdin:
        walls = array.array("q")
        began = before = time.perf_counter_ns()
        end = began + int(float(line) * 1e9)
        while before < end:
            ask(connection, number)
            number += 1
            now = time.perf_counter_ns()
            walls.append(now - before)
            before = now
        told = {"units": len(walls), "wall_seconds": (before - began) / 1e9, "wall_ms": load.latencies(walls)}
        print(json.dumps(told), flush=True)


def main():
    if sys.argv[1:2] == [CLIENT]:
        return client(int(sys.argv[2]))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    command = [sys.executable, __file__, CLIENT, str(server.server_address[1])]
    # It ends with its stdin, which ends with us.
    asking = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def work(seconds):
        used = time.process_time()
        print(seconds, file=asking.stdin, flush=True)
        told = json.loads(asking.stdout.readline())
        return {**told, "cpu_seconds": time.process_time() - used}

    load.serve(work)


if __name__ == "__main__":
    main()
