"""Some of the faults at some of the phases, in a minute; all of them: ``python -m tests.hardening.build_faults``."""

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.phases import Phase, reach
from tests.hardening.build_faults import BUILD_PHASES, NEEDS_ROOT, PROMISED, Undisturbed, holds, trial
from tests.hardening.builders import forkserver
from tests.hardening.faults import FAULTS, FaultPlan, Room, injected, seed_between

QUICK = (
    ("kill", "shard"), ("kill", "publish"), ("kill", "event"), ("out_of_memory", "receipt"), ("disk_full", "receipt"),
    ("disk_full", "publish"), ("read_only", "publish"), ("input_output_error", "event"), ("clock_back", "receipt"),
    ("flipped_bit", "verify"), ("flipped_bit_of_a_table", "verify"), ("flipped_bit_of_metadata", "receipt"),
    ("flipped_bit_of_the_list", "verify"), ("lost_object", "publish"), ("swapped_shards", "verify"), ("bad_sample", "plan"),
    ("second_builder", "shard"), ("lost_worker", "shard"),
)  # fmt: skip
"""Each kind of fault and each phase at least once."""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that nobody can reach too: pytest's own is for its owner alone."""
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def undisturbed(folder) -> Undisturbed:
    return Undisturbed.made(folder / "undisturbed", forkserver())


@pytest.mark.parametrize(("fault", "phase"), QUICK)
def test_a_build_with_a_fault_ends_as_promised_and_the_next_one_ends_as_if_nothing_had_been(
    fault, phase, undisturbed, folder
):
    seen = trial(fault, phase, undisturbed, folder / f"{fault}-{phase}", forkserver())
    assert holds(PROMISED[fault][phase], seen), seen


@pytest.mark.root
@pytest.mark.parametrize("phase", BUILD_PHASES)
@pytest.mark.parametrize("fault", sorted(NEEDS_ROOT))
def test_a_small_disk_that_somebody_else_fills_ends_a_build_and_space_lets_it_go_on(fault, phase, undisturbed, folder):
    seen = trial(fault, phase, undisturbed, folder / f"{fault}-{phase}", forkserver())
    assert holds(PROMISED[fault][phase], seen), seen


def test_the_quick_ones_meet_every_phase_and_the_table_every_fault():
    assert {phase for _, phase in QUICK} == set(BUILD_PHASES)
    assert set(PROMISED) - {"lost_worker", "lost_dask_worker"} == set(FAULTS)
    assert set(BUILD_PHASES) == {phase for phase in Phase if phase != "training"}


def test_a_plan_and_a_seed_are_the_same_faults_every_time(tmp_path):
    rooms = itertools.count()

    def struck(seed: int, **faults: float) -> list[str]:
        room = Room(tmp_path / str(next(rooms)))
        room.folder.mkdir()
        with injected(FaultPlan({"shard": faults}, seed), room, dict.fromkeys(faults, lambda _: None)):
            for moment in range(60):
                reach(Phase.SHARD, str(moment))
        return [f"{name} {what}" for name, what in zip(room.told("struck"), room.told("what"), strict=True)]

    assert struck(3, a=0.1, b=0.05) == struck(3, a=0.1, b=0.05)
    assert len({tuple(struck(seed, a=0.1, b=0.05)) for seed in range(8)}) > 4
    assert struck(seed_between(0.1, 10, 12), a=0.1) in (["a 10"], ["a 11"], ["a 12"])
    assert struck(5, a=0.0) == []
