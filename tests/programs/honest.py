"""The operations of the leaking programs, with nothing leaked: all that is kept for a while is let go again."""

import stage

COUNT = 20_000 // stage.SHARE
ROUNDS = 40  # So few at a time that the freelists hold what is freed and are full before anybody looks.


class Session:
    def __init__(self, number):
        self.name = "session %d" % number

    def on_change(self, event):
        return self.name, event


def parse(number):
    raise ValueError("request %d cannot be parsed" % number)


def handle(number, sessions, cache, callbacks, errors):
    session = Session(number)
    sessions.append(session)
    cache["page number %d" % number] = bytes(300)
    callbacks.append(session.on_change)
    try:
        parse(number)
    except ValueError as error:
        errors.append(error)


def day():
    kept = [], {}, [], []
    stage.amid_churn(COUNT // ROUNDS, lambda number: handle(number, *kept))
    for container in kept:
        container.clear()


def go():
    for _ in range(ROUNDS):
        day()
    return stage.truth(churned=COUNT)


day()
stage.serve(go=go)
