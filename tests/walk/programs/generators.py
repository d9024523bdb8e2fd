"""Frames that do not lie on the thread's own stack of frames: generators, coroutines, and what iterates over them in C."""

import os

from blocked import tell


def innermost():
    yield 1
    yield os.read(0, tell())


def delegating():
    yield from innermost()


def consumed():
    return list(item for item in delegating())


async def coroutine():
    return consumed()


async def awaiting():
    return await coroutine()


class Asynchronous:
    async def __aenter__(self):
        return await awaiting()

    async def __aexit__(self, *_):
        return None


async def with_block():
    async with Asynchronous():
        pass


try:
    with_block().send(None)
except StopIteration:
    pass
