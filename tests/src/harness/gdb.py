"""What gdb says of a process's threads, one line of JSON behind `STOPPED ` for each time that the process is stopped.

gdb runs this with the process attached. It obeys the lines of its stdin: `go` lets the process run until a SIGINT comes from outside, `until FUNCTION
CONDITION` until it is at a function and a condition holds, `quit` lets it go. While the process stands, whoever asked may look at it too.
"""

import json
import sys

import gdb

# A process that stands still must not be held up by questions, nor looked at by half.
for line in (
    "set pagination off",
    "set confirm off",
    "set width 0",
    "set print thread-events off",
    "set backtrace past-main on",
    "set backtrace past-entry on",
    "set backtrace limit 1000",
    "handle all nostop noprint pass",
    "handle SIGINT stop print nopass",
):
    gdb.execute(line, to_string=True)

# Frames of functions that were inlined or left by a jump have no return address: gdb makes them from debug information.
KINDS = {
    gdb.NORMAL_FRAME: "normal",
    gdb.SIGTRAMP_FRAME: "signal",
    gdb.INLINE_FRAME: "inline",
    gdb.TAILCALL_FRAME: "jumped",
}


def register(frame, name):
    return int(frame.read_register(name)) & (1 << 64) - 1


def look(thread):
    """One thread: its registers and its frames, innermost first."""
    thread.switch()
    frame = gdb.newest_frame()
    seen = {"tid": thread.ptid[1], **{name: register(frame, name) for name in ("rip", "rsp", "rbp")}}
    frames = []
    while True:
        frames.append({"pc": frame.pc(), "kind": KINDS.get(frame.type(), "other"), "name": frame.name()})
        try:
            older = frame.older()
        except gdb.error as error:
            seen["end"] = str(error)
            break
        if older is None:
            seen["end"] = gdb.frame_stop_reason_string(frame.unwind_stop_reason())
            break
        frame = older
    return {**seen, "frames": frames}


def tell():
    threads = [look(thread) for thread in gdb.selected_inferior().threads()]
    print("STOPPED", json.dumps({"threads": threads}), flush=True)


def until(function, condition):
    stop = gdb.Breakpoint(function, internal=True)
    stop.condition = condition
    gdb.execute("continue", to_string=True)
    stop.delete()


tell()
for line in sys.stdin:
    command, *words = line.split(maxsplit=2)
    if command == "go":
        gdb.execute("continue", to_string=True)
    elif command == "until":
        until(*words)
    else:
        break
    tell()
gdb.execute("detach", to_string=True)
