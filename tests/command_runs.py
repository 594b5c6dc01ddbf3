"""Runs of the command line: in this process, in one of its own, and on a pretended terminal."""

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

START = "from flows.command_line import main; main()"

NAMES_LOADED = """
import sys
from flows.command_line import main
try:
    main()
except SystemExit as ended:
    print(*{name.partition(".")[0] for name in sys.modules}, file=sys.stderr)
    raise
"""


class Ended:
    """How a command ended, and what it printed."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def __iter__(self) -> Iterator[int | str]:
        """``code, out, err = run(…)``."""
        return iter((self.code, self.out, self.err))

    @property
    def json(self) -> dict:
        """The one object on the one line of standard output; NaN is not JSON."""

        def refuse(name: str) -> None:
            raise AssertionError(f"{name} is not JSON")

        assert self.out.endswith("}\n")
        assert self.out.count("\n") == 1
        return json.loads(self.out, parse_constant=refuse)

    @property
    def complaint(self) -> str:
        """The one line of standard error; nothing was printed beside it, but that the command lives (on a slow machine)."""
        assert self.out == ""
        err = without_signs_of_life(self.err)
        assert err.startswith("facefoundry: ")
        assert err.count("\n") == 1
        return err


def without_signs_of_life(err: str) -> str:
    """Standard error without the lines by which a command tells that it lives, as on a slow machine."""
    return re.sub(r"^[a-z -]+: running for \d+ s\n", "", err, flags=re.MULTILINE)


def in_a_process(
    *arguments: str | Path, script: str = START, environment: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Ended:
    """A command in a process of its own; `environment` is added to this one's."""
    ended = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **(environment or {})},
        timeout=300,
    )
    return Ended(ended.returncode, ended.stdout.decode(errors="replace"), ended.stderr.decode(errors="replace"))


def loaded_by(ended: Ended) -> set[str]:
    """The packages that a process under :data:`NAMES_LOADED` had loaded when it ended."""
    assert ended.code == 0, ended.err
    assert ended.err.count("\n") == 1
    return set(ended.err.split())


def on_a_terminal(*arguments: str | Path, columns: int = 80, environment: Mapping[str, str] | None = None) -> Ended:
    """A command whose standard error is a terminal so wide, and whose standard output is a pipe."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", START, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns), **(environment or {})},
    )
    os.close(theirs)
    seen, end = b"", time.monotonic() + 300
    while time.monotonic() < end:
        if not select.select([ours], [], [], 0.2)[0]:
            continue
        try:
            piece = os.read(ours, 4096)
        except OSError:  # the last of them has closed it
            break
        if not piece:
            break
        seen += piece
    os.close(ours)
    out = process.communicate(timeout=60)[0]
    return Ended(process.returncode, out.decode(), seen.decode(errors="replace"))
