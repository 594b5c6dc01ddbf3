"""How a command ends: exit codes, and what becomes of an error. The codes are promised in docs/command-line.md."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

DONE, FAILED, WRONG_USE, TOO_MANY_BAD, ALREADY_BUILDING = range(5)
INTERRUPTED = 130
"""128 and the signal's number, as shells have it: SIGINT."""
STOPPED = "stopped; what is finished is kept, and the same command goes on"
NO_READER = 141
"""The same of SIGPIPE: whoever read standard output has left."""

_MORE_MEMORY = "end other programs or take fewer --workers, and start the same command again; what is finished is kept"
_OF_LOADERS = ("failed to map segment", "cannot allocate memory", "Cannot allocate memory")
_NO_THREAD = "can't start new thread"
_OPENCV_NO_MEMORY = -4  # cv2.Error.StsNoMem


def complain(sentence: str, code: int) -> int:
    """Say a sentence on standard error; gives the code back."""
    print(f"facefoundry: {sentence}", file=sys.stderr)
    return code


def exit_code_of(error: Exception) -> int:
    """One line for what a user can mend; a traceback for what only we can."""
    if _lacks_memory(error):  # first, for imports need memory
        about = f" ({said[0]})" if (said := str(error).strip().splitlines()) else ""
        return complain(f"memory ran out{about}; {_MORE_MEMORY}", FAILED)
    from flows.errors import TooManyBad, WrongUse
    from geometry.extras import how_to_get
    from storage.publish import AlreadyBuilding
    from storage.store import DamagedObject

    if isinstance(error, WrongUse):
        return complain(str(error), WRONG_USE)
    if isinstance(error, TooManyBad):
        return complain(str(error), TOO_MANY_BAD)
    if isinstance(error, AlreadyBuilding):
        return complain(str(error), ALREADY_BUILDING)
    if isinstance(error, OSError) and error.errno:
        return complain(_sentence_of(error), FAILED)
    if isinstance(error, ValueError | OSError | LookupError | RuntimeError | DamagedObject):
        return complain(str(error), FAILED)
    if isinstance(error, ModuleNotFoundError) and (extra := _extra_of(error.name or "")):
        return complain(f"this needs {error.name}, which is not installed: {how_to_get(extra)}", FAILED)
    raise error


def _lacks_memory(error: Exception) -> bool:
    """Whether the system refused memory: to Python, to OpenCV, for a library that was to be loaded, or for a thread."""
    if isinstance(error, ImportError):
        return any(words in str(error) for words in _OF_LOADERS)
    of_opencv = type(error).__module__ == "cv2" and getattr(error, "code", 0) == _OPENCV_NO_MEMORY
    return of_opencv or isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and str(error) == _NO_THREAD)


def _extra_of(module: str) -> str:
    """The extra whose packages a module is of; empty where it is of none. A `make build` brings none of them."""
    from importlib.metadata import PackageNotFoundError, requires

    from flows.doctor import wanted_by_extra

    try:
        groups = wanted_by_extra(requires("facefoundry") or [])
    except PackageNotFoundError:
        return ""
    wanted = module.partition(".")[0].replace("_", "-")
    names = {
        extra: {need.name.removesuffix("-bin").replace("_", "-") for need in needs} for extra, needs in groups.items()
    }
    return next((extra for extra, known in names.items() if extra and wanted in known), "")


def _sentence_of(error: OSError) -> str:
    """What the system said, about what, and what to do."""
    import errno

    advice = {
        errno.ENOSPC: "free some space and start the same command again; what is finished is kept",
        errno.EDQUOT: "free some space and start the same command again; what is finished is kept",
        errno.EROFS: "choose an --out that can be written to",
        errno.EACCES: "choose a place that this user may use, or change its permissions",
        errno.ENOENT: "look at its name, or put it back where it was, and start the same command again",
    }.get(error.errno or 0)
    about = f"{error.filename}: " if error.filename else ""
    return f"{about}{error.strerror or error}" + (f"; {advice}" if advice else "")


@contextmanager
def ended_by_a_second_ctrl_c() -> Iterator[None]:
    """Within the block a second Ctrl-C waits for nothing, neither for threads at work nor for a server that is silent.

    Python hears signals in its main thread, and only between two steps of its own; this pipe is told at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    told, tells = os.pipe()
    os.set_blocking(tells, False)
    before = signal.set_wakeup_fd(tells, warn_on_full_buffer=False)
    threading.Thread(target=_end_at_the_second, args=(told,), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(tells)


def _end_at_the_second(told: int) -> None:
    heard = 0
    with os.fdopen(told, "rb", buffering=0) as signals:
        while numbers := signals.read(64):
            heard += numbers.count(signal.SIGINT)
            if heard > 1:
                end_workers()
                shown = "\x1b[?25h\n" if os.isatty(2) else ""  # the cursor, which a progress bar hides
                os.write(2, f"{shown}facefoundry: {STOPPED}\n".encode())
                os._exit(INTERRUPTED)


def end_workers() -> None:
    """After Ctrl-C workers still busy are not waited for."""
    import multiprocessing

    for worker in multiprocessing.active_children():
        worker.kill()
