"""A registry of callbacks whose listeners never unsubscribe."""

import stage

COUNT = 20_000 // stage.SHARE


class Listener:
    def __init__(self, name):
        self.name = name  # FIRST

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
    stage.amid_churn(COUNT, subscribe, every=stage.SELDOM)
    # The listener and the bound method; and the list's array.
    kept = stage.leak(MARK, blocks=(stage.INSTANCE_BLOCKS + 1) * COUNT + 1, type="Listener")
    return stage.truth(kept, *stage.attributes(Listener.__init__, COUNT))


MARK = stage.mark(Signal.connect)
stage.serve(go=go)
