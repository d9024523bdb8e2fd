"""What the programs of this folder share: they compute until they are killed, so that they can be stopped at any moment.

A program prints `READY PID` and then lets each of its threads repeat one function. Should the test die before it could kill the program, the
program sees that its parent is another one and ends.
"""

import os
import threading
import traceback

PARENT = os.getppid()


def repeat(function):
    try:
        while os.getppid() == PARENT:
            function()
    except BaseException:
        traceback.print_exc()
    os._exit(1)


def run(*functions):
    """Repeats each function in a thread of its own, the first one in the main thread."""
    for function in functions[1:]:
        threading.Thread(target=repeat, args=(function,), daemon=True).start()
    print("READY", os.getpid(), flush=True)
    repeat(functions[0])
