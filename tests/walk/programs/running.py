"""A thread that runs all the time, beside one that waits for ever."""

import threading

from blocked import tell

threading.Thread(target=threading.Event().wait, daemon=True).start()
tell()
while True:
    pass
