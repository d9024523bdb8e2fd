"""Threads that mostly wait, in the kernel and for each other, and timers' signals that interrupt any of them: handlers
in Python, and one in C that runs on their stack or on its own."""
# builds: signals.c

import itertools
import os
import queue
import select
import socket
import signal
import subprocess
import threading
import time

import forever
import signals

JOBS, DONE = queue.Queue(3), queue.Queue()
LOCK, BELL = threading.RLock(), threading.Condition()
NUMBERS, CALLS, ROUNDS = itertools.count(), itertools.count(), itertools.count()


def sleep():
    time.sleep(0.0003)
    BELL.acquire()
    BELL.wait(0.0005)
    BELL.notify_all()
    BELL.release()


def give():
    with LOCK:
        JOBS.put(next(NUMBERS))
    DONE.get()


def take():
    DONE.put(JOBS.get() ** 0.5)
    with LOCK, LOCK:
        time.monotonic()


def poll():
    one, other = socket.socketpair()
    with one, other, select.epoll() as epoll:
        select.select([one], [], [], 0.0004)
        one.send(b"x")
        epoll.register(other, select.EPOLLIN)
        epoll.poll(0.0004)
        other.recv(1)
        other.settimeout(0.0004)
        try:
            other.recv(1)
        except TimeoutError:
            pass


def call():
    poller = select.poll()
    source, sink = os.pipe()
    poller.register(source)
    poller.poll(1)
    os.close(sink)
    os.read(source, 1)
    os.close(source)
    if next(CALLS) % 16 == 0:
        threading.Thread(target=time.time_ns).start()
    os.stat("/"), os.listdir("/proc/self/fd"), os.urandom(2000), [time.perf_counter() for _ in range(200)]


def work():
    """The main thread gets the process's signals, unless it has them blocked."""
    how = signal.SIG_BLOCK if next(ROUNDS) % 2 else signal.SIG_UNBLOCK
    signal.pthread_sigmask(how, [signal.SIGALRM, signal.SIGPROF])
    sorted(map(str, range(300)), key=lambda text: (len(text), text[::-1]))


subprocess.run(["true"], check=True)
signal.signal(signal.SIGPROF, lambda *_: sum(range(100)))
signal.setitimer(signal.ITIMER_PROF, 0.005, 0.005)
signals.interrupt(2000)
forever.run(work, sleep, give, take, poll, call)
