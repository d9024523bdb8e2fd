"""What a request of a small server does: honest work, of which nothing stays, and what one may keep of it for ever."""

import json

PAUSE = 1 / 330
PADDING = "x" * 400
ENTRIES = 4


class Entry:
    """Comes from the allocator each time: objects of such classes have no freelist. It keeps nothing that another line has made."""

    __slots__ = ("text", "number")

    def __init__(self, text, number):
        self.text = text
        self.number = number


def session_of(number):
    return {"user": "user %d" % number, "items": [number * 1000 + item for item in range(6)], "price": number * 0.5}


def honest(number, session):
    answer = json.loads(json.dumps({"session": session, "tags": ["red", "green", "blue"], "path": "/item/%d" % number}))
    words = ["%s=%s" % (name, value) for name, value in answer.items()]
    if answer["session"]["user"] != session["user"] or len("&".join(words)) < 50:
        raise SystemExit("the work is wrong")
