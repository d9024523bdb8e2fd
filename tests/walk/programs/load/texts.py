"""C code that works on text and calls itself: JSON in both directions, with hooks in Python, pickle, csv, regular expressions, formats, decimals."""

import csv
import decimal
import io
import json
import pickle
import re
import struct

import forever

DOCUMENT = {
    "items": [{"number": number, "name": f"item {number}", "tags": ["red", {"deep": [number / 7] * 3}]} for number in range(40)],
    "texts": {f"key {number}": "ä∑\n\t\"quoted\"" * 5 for number in range(30)},
}
WORDS = re.compile(r"(?P<word>\w+)(?:\s*:\s*(?:(\d+)|\"((?:[^\"\\]|\\.)*)\"))?", re.UNICODE)


class Point:
    def __init__(self, number):
        self.number = number

    def __reduce__(self):
        return Point, (self.number,)

    def __repr__(self):
        return f"Point({self.number!r})"


def documents():
    text = json.dumps(DOCUMENT)
    deep = "[" * 150 + text + "]" * 150  # More C frames than a stack can hold.
    json.loads(deep)
    json.loads(deep, object_hook=lambda found: {**found})
    json.loads(text, parse_float=decimal.Decimal)
    json.dumps([Point(number) for number in range(30)], default=repr, indent=1)


def pickles():
    points = [[Point(number), {number: Point(str(number))}] for number in range(50)]
    pickle.loads(pickle.dumps(points))
    pickle.loads(pickle.dumps(DOCUMENT, protocol=0))


def lines():
    table = io.StringIO()
    csv.writer(table).writerows([number, "a,b", number / 3, Point(number)] for number in range(60))
    table.seek(0)
    for row in csv.reader(table):
        ",".join(row).upper().split(",")
    WORDS.sub(lambda match: match.group("word")[::-1], json.dumps(DOCUMENT["items"][:6]))
    struct.unpack("<60d", struct.pack("<60d", *map(float, range(60))))
    sum(map(decimal.Decimal, map(str, range(50))), decimal.Decimal("0.1")).sqrt()
    repr([Point(10**number) for number in range(60)])


forever.run(documents, pickles, lines)
