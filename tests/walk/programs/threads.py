"""Three threads that all run Python; the one that tells was started in the middle."""

import os
import threading

from blocked import tell

never = threading.Event()
started = threading.Barrier(2)


def idle():
    started.wait()
    never.wait()


def working():
    other = threading.Thread(target=idle, daemon=True)
    other.start()
    started.wait()
    os.read(0, tell())


threading.Thread(target=idle, daemon=True).start()
started.wait()
threading.Thread(target=working, daemon=True).start()
never.wait()
