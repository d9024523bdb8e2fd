"""A list of all instances that hangs on their class."""

import stage

COUNT = 20_000


class Session:
    all = []

    def __init__(self, number):
        self.name = "session"
        Session.all.append(self)


def accept(number):
    Session(number)  # LEAK


def go():
    stage.amid_churn(COUNT, accept)
    return stage.truth(stage.leak(MARK, blocks=2 * COUNT, type="Session"))  # The instance and its attribute values.


MARK = stage.mark(accept)
stage.serve(go=go)
