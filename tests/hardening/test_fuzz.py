"""A minute of damaged files with every push: a fixed number of examples of each target, none of which may be a find.

The same examples every time; `python -m tests.hardening.fuzz` runs others, for as long as one likes.
"""

import random
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # `tests` is no installed package

from tests.hardening.fuzz import example, is_own_refusal, run_examples, run_for  # noqa: E402
from tests.hardening.fuzz_targets import TARGETS, Seed  # noqa: E402
from tests.hardening.mutations import mutated  # noqa: E402

EXAMPLES = {"annotations": 1000, "images": 600, "manifests": 100, "configs": 500, "checkpoints": 80, "models": 40}
SEED = 20


def test_every_target_is_fuzzed():
    assert EXAMPLES.keys() == TARGETS.keys()


@pytest.mark.parametrize("target", TARGETS)
def test_damaged_files_are_read_right_or_refused(target, tmp_path):
    tally = run_examples(target, SEED, range(EXAMPLES[target]), tmp_path / "work")
    assert tally.finds == []
    assert tally.n == EXAMPLES[target]
    assert tally.outcomes["refused"] > tally.n / 4  # the damage is real
    assert tally.outcomes["same"] + tally.outcomes["read"] > 0


def test_an_example_is_the_same_every_time():
    data, others = b'{"a": [1, 2.5, null], "b": "text"}', [b'{"c": 1}']
    found = [mutated(data, others, random.Random(f"x {number}"), is_text=True) for number in range(300)]
    assert found == [mutated(data, others, random.Random(f"x {number}"), is_text=True) for number in range(300)]
    assert len({one.kind for one in found}) > 10
    assert len({one.data for one in found}) > 150


class Unforeseen(Exception):
    pass


def test_whatever_is_no_refusal_of_ours_is_a_find(monkeypatch, tmp_path):
    def read(data: bytes) -> str:
        if len(data) % 3 == 0:
            raise Unforeseen
        if len(data) % 3 == 1:
            raise ValueError("said on purpose")
        return str(len(data))

    monkeypatch.setitem(TARGETS, "toy", lambda folder: [Seed("toy", b"x" * 200, read, checksummed=True)])
    tally = run_examples("toy", 0, range(400), tmp_path)
    assert {find.what.partition(":")[0] for find in tally.finds} == {"Unforeseen"}
    assert tally.outcomes["refused"] > 0
    assert tally.outcomes["find"] == len(tally.finds) > 0


def test_other_values_in_spite_of_a_checksum_are_a_find(monkeypatch, tmp_path):
    monkeypatch.setitem(
        TARGETS, "toy", lambda folder: [Seed("toy", b"x" * 200, lambda data: data.hex(), checksummed=True)]
    )
    finds = run_examples("toy", 0, range(100), tmp_path).finds
    assert finds
    assert {find.kind for find in finds} == {"bits", "bytes"}


def test_a_refusal_is_ours_when_we_raised_it():
    def refusal(call) -> BaseException:
        with pytest.raises(Exception) as caught:  # noqa: PT011
            call()
        return caught.value

    assert not is_own_refusal(refusal(lambda: int("x")))  # a ValueError that nobody meant
    assert not is_own_refusal(refusal(lambda: [][1]))
    assert not is_own_refusal(AssertionError("never meant"))
    from storage.bad_sample import BadSample

    assert is_own_refusal(BadSample("code", "sentence"))


def test_a_process_that_is_killed_costs_one_example_and_is_a_find(monkeypatch, tmp_path):
    """Number 3 ends its process; the numbers behind it are run all the same."""
    (tmp_path / "sitecustomize.py").write_text(
        "import tests.hardening.fuzz_targets as t, os\n"
        "def read(data):\n"
        "    if t.deadly == data: os.kill(os.getpid(), 11)\n"
        "    return 'read'\n"
        "t.TARGETS['toy'] = lambda folder: [t.Seed('toy', b'abc' * 50, read)]\n"
        "from tests.hardening.fuzz import example\n"
        "t.deadly = example(t.TARGETS['toy'](None), 'toy', 5, 3)[1].data\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    tally = run_for("toy", 5, 12.0, tmp_path / "work")
    assert tally.finds[0].number == 3
    assert {find.what for find in tally.finds} == {"the process ended with -11"}
    assert tally.n > 10
    assert example is not None
