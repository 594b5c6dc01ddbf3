"""How a command ends: exit codes, and what becomes of an error. The codes are promised in docs/command-line.md."""

import sys

DONE, FAILED, WRONG_USE, TOO_MANY_BAD, ALREADY_BUILDING = range(5)
INTERRUPTED = 130
"""128 and the signal's number, as shells have it: SIGINT."""
NO_READER = 141
"""The same of SIGPIPE: whoever read standard output has left."""


def complain(sentence: str, code: int) -> int:
    """Say a sentence on standard error; gives the code back."""
    print(f"facefoundry: {sentence}", file=sys.stderr)
    return code


def exit_code_of(error: Exception) -> int:
    """One line for what a user can mend; a traceback for what only we can."""
    from flows.errors import TooManyBad, WrongUse
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
        needed = f"this needs {error.name}, which is not installed"
        return complain(f"{needed}: in the checkout `make setup`, or pip install 'facefoundry[{extra}]'", FAILED)
    raise error


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
        errno.ENOENT: "it was moved or removed; put it back and start the same command again",
    }.get(error.errno or 0)
    about = f"{error.filename}: " if error.filename else ""
    return f"{about}{error.strerror or error}" + (f"; {advice}" if advice else "")


def end_workers() -> None:
    """After a second Ctrl-C nothing may be waited for: workers still busy are ended."""
    import multiprocessing
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for worker in multiprocessing.active_children():
        worker.kill()
