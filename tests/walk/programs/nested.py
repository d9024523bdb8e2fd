"""Every way in which functions of one file call each other: recursion, methods, closures, lambdas, C code that calls back."""

import functools
import os

from blocked import tell


def recursion(depth):
    if depth == 0:
        return Service().handle()
    return recursion(depth - 1)


class Service:
    @property
    def answer(self):
        return sorted([2, 1], key=self.key)

    def key(self, item):
        def nested():
            def closure():
                return self.held(item)

            return closure()

        return nested()

    @staticmethod
    def held(item):
        return [inner(item)
                for _ in range(1)
                for inner in [lambda value: Service.last(
                    value)]]

    @classmethod
    def last(cls, value):
        return functools.reduce(lambda one, other: os.read(0, tell()), [value, value])

    def handle(self):
        return {name: self.answer for name in ("a",)}


recursion(5)
