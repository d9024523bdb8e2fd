"""A list of all instances that hangs on their class."""

import stage

COUNT = 20_000 // stage.SHARE


class Session:
    all = []

    def __init__(self, number):
        self.name = "session"  # FIRST
        Session.all.append(self)


def accept(number):
    Session(number)  # LEAK


def go():
    stage.amid_churn(COUNT, accept, every=stage.SELDOM)
    kept = stage.leak(MARK, blocks=stage.INSTANCE_BLOCKS * COUNT, type="Session")
    return stage.truth(kept, *stage.attributes(Session.__init__, COUNT))


MARK = stage.mark(accept)
stage.serve(go=go)
