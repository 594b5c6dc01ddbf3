"""Where a bad input is tried: a copy of good samples, the command line with its limits, and the good samples afterwards."""

import contextlib
import io
import re
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

from flows.command_line import main
from storage.dataset import open_dataset
from tests import command_runs
from tests.hardening.kept import FACES

GOOD_STEM, BAD_STEM = "AFW_7000001_1_0", "AFW_7000009_1_0"
BAD_ID = f"AFW/{BAD_STEM}"
BUILD = ("build", "300wlp-posmaps", "--size", "128", "--workers", "1")
MEMORY_LIMIT_MB = 300
TIME_LIMIT_S = 20.0

Variables = dict[str, np.ndarray]


class Ended(command_runs.Ended):
    """How a command ended, what it said, and what it took."""

    def __init__(self, code: int, out: str, err: str, *, seconds: float, grown_mb: float) -> None:
        super().__init__(code, out, err)
        self.seconds, self.grown_mb = seconds, grown_mb

    def complains(self, code: int, *words: str) -> None:
        """It ended with this code and one line, which has these words in it."""
        assert self.code == code, (self.code, self.out, self.err[-2000:])
        said = command_runs.without_signs_of_life(self.err)
        assert said.startswith("facefoundry: "), self.err
        assert said.count("\n") == 1, self.err
        for word in words:
            assert re.search(word, said), (word, self.err)


@dataclass(frozen=True, slots=True)
class Good:
    """Good samples: their folder, what is made of them, and one of them in parts to make bad ones of."""

    source: Path
    jpeg: bytes
    mat: bytes
    variables: Variables
    expected: Mapping[str, dict[str, np.ndarray]]
    """Every target of every good sample by its id, as a build without anything bad gives them."""

    @property
    def pixels(self) -> np.ndarray:
        """(450 450 3) of the good picture."""
        return np.array(Image.open(io.BytesIO(self.jpeg)))


@dataclass(slots=True)
class Lab:
    """A folder for one row: a copy of the good samples, and an output folder."""

    folder: Path
    good: Good

    @property
    def source(self) -> Path:
        return self.folder / "source"

    @property
    def afw(self) -> Path:
        return self.source / "AFW"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def put(
        self, *, mat: bytes | None = None, jpeg: bytes | None = None, stem: str = BAD_STEM, suffix: str = ".jpg"
    ) -> None:
        """A sample beside the good ones; what is not given is the good one's."""
        (self.afw / f"{stem}.mat").write_bytes(self.good.mat if mat is None else mat)
        (self.afw / f"{stem}{suffix}").write_bytes(self.good.jpeg if jpeg is None else jpeg)

    def run(self, *arguments: str | Path) -> Ended:
        """The command line in this process, from arguments to the exit code."""
        out, err = io.StringIO(), io.StringIO()
        previous, sys.argv = sys.argv, ["facefoundry", *map(str, arguments)]
        before, start = peak_mb(reset=True), time.process_time()
        code = 0
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    main()
                except SystemExit as ended:
                    code = int(ended.code or 0)
        finally:
            sys.argv = previous
        seconds, grown_mb = time.process_time() - start, peak_mb() - before
        ended = Ended(code, out.getvalue(), err.getvalue(), seconds=seconds, grown_mb=grown_mb)
        assert ended.seconds < TIME_LIMIT_S, ended.seconds
        assert ended.grown_mb < MEMORY_LIMIT_MB, ended.grown_mb
        return ended

    def build(self, *more: str) -> Ended:
        return self.run(*BUILD, "--source", self.source, "--out", self.out, "--json", *more)

    def samples(self, ended: Ended) -> dict[str, dict[str, np.ndarray]]:
        assert ended.code == 0, ended.err[-2000:]
        return samples_of(Path(ended.json["path"]))

    def good_ones_are_untouched(self, samples: Mapping[str, dict[str, np.ndarray]]) -> None:
        """Every good sample is there, bit by bit as without anything bad beside it."""
        for name, expected in self.good.expected.items():
            for target, value in expected.items():
                found = samples[name][target]
                assert found.dtype == value.dtype, target
                assert found.tobytes() == value.tobytes(), (name, target)


def samples_of(place: Path) -> dict[str, dict[str, np.ndarray]]:
    dataset = open_dataset(place)
    everything = dataset.read(range(len(dataset)))
    ids = [str(name) for name in everything.pop("source_id")]
    return {
        name: {target: np.asarray(values[row]) for target, values in everything.items()} for row, name in enumerate(ids)
    }


def peak_mb(*, reset: bool = False) -> float:
    """The most memory that this process has had, since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


def make_good(folder: Path) -> Good:
    """The kept faces, built once."""
    source = folder / "source"
    shutil.copytree(FACES, source)
    mat = (source / "AFW" / f"{GOOD_STEM}.mat").read_bytes()
    stored = scipy.io.loadmat(io.BytesIO(mat))
    good = Good(
        source=source,
        jpeg=(source / "AFW" / f"{GOOD_STEM}.jpg").read_bytes(),
        mat=mat,
        variables={name: value for name, value in stored.items() if not name.startswith("__")},
        expected={},
    )
    lab = Lab(folder / "alone", good)
    shutil.copytree(source, lab.source)
    return Good(source, good.jpeg, mat, good.variables, lab.samples(lab.build()))
