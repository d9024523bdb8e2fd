"""A registry of callbacks whose listeners never unsubscribe."""

import stage

COUNT = 20_000


class Listener:
    def __init__(self, name):
        self.name = name

    def on_change(self, event):
        return self.name, event


class Signal:
    def __init__(self):
        self.callbacks = []

    def connect(self, name):
        self.callbacks.append(Listener(name).on_change)  # LEAK


SIGNAL = Signal()


def subscribe(number):
    SIGNAL.connect("all")


def go():
    stage.amid_churn(COUNT, subscribe)
    # The listener, its attribute values and the bound method; and the list's array.
    return stage.truth(stage.leak(MARK, blocks=3 * COUNT + 1, type="Listener"))


MARK = stage.mark(Signal.connect)
stage.serve(go=go)
