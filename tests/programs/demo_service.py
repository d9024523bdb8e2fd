"""A small service with three leaks, for `cargo xtask demo`: it handles made-up requests until it is killed.

Most of what it does is honest. What is not: sessions that never expire, listeners that never unsubscribe, and a log that
keeps whole exceptions, with their tracebacks and frames.
"""

import json
import os
import signal
import time

REQUESTS_A_BATCH = 20
PAUSE_SECONDS = 0.004


class BadRequest(Exception):
    pass


class Session:
    def __init__(self, user, token):
        self.user = user
        self.token = token
        self.cart = bytearray(900)


class SessionRegistry:
    def __init__(self):
        self.by_token = {}

    def open(self, user, number):
        token = f"{user}-{number:08x}"
        session = Session(user, token)  # Never expires.
        self.by_token[token] = session
        return session


class Events:
    def __init__(self):
        self.callbacks = []

    def subscribe(self, callback):
        self.callbacks.append(callback)  # Nobody ever takes one out.


class Basket:
    """Recomputes its total when prices change, or would, if they ever did."""

    def __init__(self, items):
        self.items = items

    def on_price_change(self, prices):
        return sum(prices[name] * count for name, count in self.items)


class ErrorLog:
    def __init__(self):
        self.entries = []

    def add(self, error):
        self.entries.append(error)  # And with it the traceback, its frames and their locals.


class Service:
    def __init__(self):
        self.sessions = SessionRegistry()
        self.events = Events()
        self.errors = ErrorLog()
        self.prices = {f"article {number}": number * 1.25 for number in range(50)}

    def handle(self, number, body):
        request = parse(body)
        if number % 5 == 0:
            self.sessions.open(request["user"], number)
        answer = self.price(request)
        if number % 7 == 0:
            self.watch(request)
        return json.dumps(answer)

    def price(self, request):
        lines = [{"name": name, "count": count, "price": self.prices[name] * count} for name, count in request["items"]]
        return {"user": request["user"], "lines": lines, "total": sum(line["price"] for line in lines)}

    def watch(self, request):
        basket = Basket(request["items"])
        self.events.subscribe(basket.on_price_change)

    def serve(self, number, body):
        try:
            return self.handle(number, body)
        except BadRequest as error:
            self.errors.add(error)
            return json.dumps({"error": str(error)})


def parse(body):
    request = json.loads(body)
    for name, count in request["items"]:
        if count < 1:
            raise BadRequest(f"{name}: {count} is not a count")
    return request


def make_body(number):
    """What a client would send; every fiftieth is wrong."""
    items = [[f"article {(number + step) % 50}", step + 1] for step in range(4)]
    if number % 50 == 49:
        items[-1][1] = 0
    return json.dumps({"user": f"user {number % 900}", "items": items})


def main():
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    service = Service()
    parent = os.getppid()
    print("READY", os.getpid(), flush=True)
    number = 0
    while os.getppid() == parent:  # An orphan that leaks would eat the machine.
        for _ in range(REQUESTS_A_BATCH):
            service.serve(number, make_body(number))
            number += 1
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    main()
