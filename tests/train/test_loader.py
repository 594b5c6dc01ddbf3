"""The order of an epoch: every sample once, the same every time, shared by ranks, and taken up where it was left."""

import itertools
import json
import multiprocessing
import shutil
import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from storage.bad_sample import BadSample
from storage.codes import FixedPoint, Utf8
from storage.dataset import open_dataset
from storage.local_store import LocalStore
from storage.manifest import DatasetPlan, ModelInfo, SourceInfo
from storage.publish import draft_manifest, publish, start_version
from storage.schema import Schema, Target
from storage.shards import ShardWriter
from storage.store import DamagedObject
from train.epoch_order import EpochOrder
from train.loader import ShardSampler, make_loader

SIZES = st.lists(st.integers(0, 9), min_size=1, max_size=8).map(np.array)
SCHEMA = Schema(
    targets=(
        Target(name="image", dtype="uint8", sample_shape=(4, 5, 3), description="", channels_first=True),
        Target(
            name="position_map", dtype="float32", sample_shape=(2, 3, 3), description="", code=FixedPoint(),
            channels_first=True,
        ),
        Target(name="landmarks_px", dtype="float32", sample_shape=(68, 3), description=""),
        Target(name="mirrored", dtype="bool", description=""),
        Target(name="seed", dtype="int64", description=""),
        Target(name="source_id", dtype="str", description="", code=Utf8(max_bytes=16)),
    )
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Fifty slots in seven shards, four of them holes."""
    plan = DatasetPlan(
        name="toy",
        config={},
        recipe_version=1,
        model=ModelInfo(name="nobody", fingerprint="0"),
        sources=(SourceInfo(kind="numbers", n_files=0, fingerprint="0"),),
        sample_schema=SCHEMA,
        shard_size=8,
        n_slots=50,
    )
    store = LocalStore(tmp_path_factory.mktemp("out") / "toy" / plan.version)
    start_version(store, plan)
    for shard in range(plan.n_shards):
        writer = ShardWriter(store, plan, shard)
        for slot in plan.slots(shard):
            if slot in (0, 17, 18, 49):
                writer.reject(slot, str(slot), BadSample("a", "b"))
            else:
                writer.add(slot, picture(slot))
        writer.finish()
    publish(store, draft_manifest(store, plan))
    return store.root


def picture(slot):
    rng = np.random.default_rng(slot)
    return {
        "image": rng.integers(0, 256, (4, 5, 3), dtype=np.uint8),
        "position_map": (rng.integers(0, 9999, (2, 3, 3)) / 64).astype(np.float32),
        "landmarks_px": rng.normal(size=(68, 3)).astype(np.float32),
        "mirrored": np.bool_(slot % 2),
        "seed": np.int64(slot),
        "source_id": f"AFW/{slot}",
    }


def epoch_of(sampler):
    return list(itertools.chain.from_iterable(sampler))


# ------------------------------------------------------------------------------------------------------------ the order


@given(sizes=SIZES, seed=st.integers(0, 99), epoch=st.integers(0, 5), in_flight=st.integers(0, 9))
def test_an_epoch_visits_every_sample_once(sizes, seed, epoch, in_flight):
    order = EpochOrder(sizes, seed=seed, shards_in_flight=in_flight)
    visited = [int(i) for piece in order.indices(epoch, 0, len(order)) for i in piece]
    assert sorted(visited) == list(range(len(order)))
    if not in_flight:
        assert visited == sorted(visited)


@given(sizes=SIZES, epoch=st.integers(0, 5), in_flight=st.integers(0, 9), data=st.data())
def test_any_stretch_of_an_epoch_is_that_stretch_of_the_whole(sizes, epoch, in_flight, data):
    order = EpochOrder(sizes, seed=5, shards_in_flight=in_flight)
    n = len(order)
    whole = [int(i) for piece in order.indices(epoch, 0, n) for i in piece]
    start = data.draw(st.integers(0, 2 * n))
    stop = data.draw(st.integers(start, 2 * n + 3))
    stretch = [int(i) for piece in order.indices(epoch, start, stop) for i in piece]
    assert stretch == [whole[place % n] for place in range(start, stop)] if n else stretch == []


def test_only_so_many_shards_are_in_flight():
    order = EpochOrder(np.full(30, 10), seed=1, shards_in_flight=4)
    visited = np.concatenate(list(order.indices(0, 0, 300)))
    for group in range(0, 300, 40):
        assert len(np.unique(visited[group : group + 40] // 10)) <= 4


def test_epochs_and_seeds_differ_and_samples_of_shards_are_mixed():
    def first_places(seed, epoch):
        return np.concatenate(list(EpochOrder(np.full(12, 20), seed=seed).indices(epoch, 0, 240)))

    orders = [first_places(seed, epoch).tolist() for seed in range(3) for epoch in range(3)]
    assert len({tuple(order) for order in orders}) == 9
    shards = first_places(0, 0) // 20
    assert (shards[1:] != shards[:-1]).mean() > 0.7


@given(
    sizes=SIZES, batch_size=st.integers(1, 7), world_size=st.integers(1, 4), epoch=st.integers(0, 3),
    remainder=st.sampled_from(["pad", "drop"]),
)  # fmt: skip
def test_ranks_share_an_epoch_equally(sizes, batch_size, world_size, epoch, remainder):
    samplers = [
        ShardSampler(sizes, seed=3, batch_size=batch_size, rank=rank, world_size=world_size, remainder=remainder)
        for rank in range(world_size)
    ]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    batches = [list(sampler) for sampler in samplers]
    assert [len(rank) for rank in batches] == [len(sampler) for sampler in samplers]
    assert len({tuple(map(len, rank)) for rank in batches}) == 1  # every rank takes the same steps
    visited = [index for rank in batches for batch in rank for index in batch]
    n = int(sizes.sum())
    if remainder == "drop":
        assert len(set(visited)) == len(visited) > n - world_size * batch_size
        assert all(len(batch) == batch_size for rank in batches for batch in rank)
    else:
        assert set(visited) == set(range(n))
        assert len(visited) - n < world_size


@given(
    sizes=SIZES, batch_size=st.integers(1, 7), later_size=st.integers(1, 7), steps=st.integers(0, 20),
    rank=st.integers(0, 1),
)  # fmt: skip
def test_an_epoch_taken_up_again_goes_on_as_if_it_had_not_been_broken(sizes, batch_size, later_size, steps, rank):
    def sampler(size):
        return ShardSampler(sizes, seed=9, batch_size=size, rank=rank, world_size=2)

    broken = sampler(batch_size)
    broken.set_epoch(2)
    whole = epoch_of(broken)
    done = list(itertools.islice(broken, steps))
    for batch in done:
        broken.advance(len(batch))
    resumed = sampler(later_size)
    resumed.load_state_dict(json.loads(json.dumps(broken.state_dict())))
    assert list(itertools.chain.from_iterable(done)) + epoch_of(resumed) == whole


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"seed": 8}, "seed was 9 and is 8"),
        ({"shards_in_flight": 2}, "shards_in_flight was 8 and is 2"),
        ({"world_size": 3}, "world_size was 1 and is 3"),
        ({"remainder": "drop"}, "remainder was 'pad' and is 'drop'"),
    ],
)
def test_an_epoch_does_not_go_on_in_another_order(change, sentence):
    options = {"seed": 9, "batch_size": 4}
    state = ShardSampler(np.array([5, 6]), **options).state_dict()
    with pytest.raises(ValueError, match=f"cannot go on in the same order: .*{sentence}"):
        ShardSampler(np.array([5, 6]), **{**options, **change}).load_state_dict(state)


def test_what_has_no_order_is_refused():
    sizes = np.array([3])
    with pytest.raises(ValueError, match="rank 2 does not exist in a world of 2"):
        ShardSampler(sizes, seed=0, batch_size=1, rank=2, world_size=2)
    with pytest.raises(ValueError, match="batches of 0 samples hold nothing"):
        ShardSampler(sizes, seed=0, batch_size=0)
    with pytest.raises(ValueError, match="must not be negative"):
        ShardSampler(sizes, seed=-1, batch_size=1)
    with pytest.raises(ValueError, match="epoch -1 does not exist"):
        ShardSampler(sizes, seed=0, batch_size=1).set_epoch(-1)


# ---------------------------------------------------------------------------------------------------------- the tensors


def test_a_batch_is_tensors_in_torchs_layout(folder):
    batch = next(iter(make_loader(folder, batch_size=3, shards_in_flight=0)))
    expected = [picture(slot) for slot in (1, 2, 3)]
    assert batch["image"].shape == (3, 3, 4, 5)
    assert batch["image"].dtype == torch.float32
    for row, sample in enumerate(expected):
        np.testing.assert_allclose(batch["image"][row], np.moveaxis(sample["image"], -1, 0) / 255, atol=1e-6)
        np.testing.assert_array_equal(batch["position_map"][row], np.moveaxis(sample["position_map"], -1, 0))
        np.testing.assert_array_equal(batch["landmarks_px"][row], sample["landmarks_px"])
    assert batch["mirrored"].tolist() == [True, False, True]
    assert batch["seed"].tolist() == [1, 2, 3]
    assert batch["source_id"] == ["AFW/1", "AFW/2", "AFW/3"]
    assert all(value.is_contiguous() for value in batch.values() if isinstance(value, torch.Tensor))


def test_only_the_targets_asked_for_travel(folder):
    batch = next(iter(make_loader(open_dataset(folder), batch_size=5, targets=["seed", "image"])))
    assert set(batch) == {"seed", "image"}


def seeds(loader):
    return [batch["seed"].tolist() for batch in loader]


def test_the_order_does_not_depend_on_the_number_of_workers_nor_on_being_broken(folder):
    unbroken = make_loader(folder, batch_size=4, seed=6)
    epochs = [seeds(unbroken), seeds(unbroken)]  # the second begins by itself
    assert sorted(itertools.chain.from_iterable(epochs[0])) == sorted(itertools.chain.from_iterable(epochs[1]))
    assert epochs[0] != epochs[1]

    working = make_loader(folder, batch_size=4, seed=6, workers=2)
    first = iter(working)
    begun = [next(first)["seed"].tolist() for _ in range(5)]
    state = json.loads(json.dumps(working.state_dict()))  # the workers have read further ahead: it does not count

    resumed = make_loader(folder, batch_size=4, seed=6)
    resumed.load_state_dict(state)
    resumed.set_epoch(0)  # as a training loop does that counts its epochs
    assert len(resumed) == len(epochs[0]) - 5
    assert begun + seeds(resumed) == epochs[0]

    working.sampler.set_epoch(0)
    assert [seeds(working), seeds(working)] == epochs


def test_a_state_belongs_to_its_data_set(folder):
    loader = make_loader(folder, batch_size=4)
    state = {**loader.state_dict(), "fingerprint": "f" * 64}
    with pytest.raises(ValueError, match=f"belongs to the data set {'f' * 16}, and this is .* open the version"):
        loader.load_state_dict(state)


def test_an_epoch_that_was_finished_goes_on_with_the_next(folder):
    loader = make_loader(folder, batch_size=46)
    for _ in loader:
        state = loader.state_dict()
    resumed = make_loader(folder, batch_size=46)
    resumed.load_state_dict(state)
    assert len(resumed) == 0
    assert seeds(resumed) == []
    assert seeds(resumed) == seeds(loader) != []


def reading_threads():
    return [thread for thread in threading.enumerate() if "ThreadPoolExecutor" in thread.name]


def test_reading_ahead_happens_in_this_process_and_ends_with_the_epoch_or_before(folder):
    before = len(reading_threads())
    loader = make_loader(folder, batch_size=4, workers=3)
    batches = iter(loader)
    next(batches)
    assert len(reading_threads()) > before
    assert not multiprocessing.active_children()
    batches.close()  # as `break` does
    assert len(reading_threads()) == before
    assert len(seeds(loader)) > 0
    assert len(reading_threads()) == before


def test_damage_that_a_thread_meets_reaches_the_loop(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    shard = max(open_dataset(copy).path.glob("seed/c.*"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"\0")
    seen = []
    loader = make_loader(copy, batch_size=4, workers=2, shards_in_flight=0)
    with pytest.raises(DamagedObject):
        seen.extend(seed for batch in loader for seed in batch["seed"].tolist())
    assert seen == seeds_in_order(folder)[: len(seen)]  # nothing that came before is lost, and nothing is skipped
    assert seen


def seeds_in_order(folder):
    return open_dataset(folder).read(slice(None), ["seed"])["seed"].tolist()
