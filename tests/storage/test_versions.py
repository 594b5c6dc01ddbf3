"""Versions: listed, compared, pinned, pruned. What somebody uses is never removed, and nobody sees half a version."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from storage import versions as versions_module
from storage.dataset import open_dataset
from storage.local_store import LocalStore
from storage.manifest import MANIFEST_KEY, Unpublished
from storage.pins import NotPinned, ReadersPin, named_pins, pin, unpin
from storage.publish import AlreadyBuilding, builders_lock, start_version
from storage.shards import ShardWriter
from storage.store import DamagedObject
from storage.stores import store_at
from storage.verify import verify
from storage.version_diff import diff_versions
from storage.versions import prune, published_versions

ROOT = Path(__file__).resolve().parents[2]
DAY_S = 86_400.0
NOW_S = 1_000 * DAY_S


@pytest.fixture
def three(tmp_path, build):
    """Three versions, published 30, 20 and 10 days ago; the last is the latest."""
    names = []
    for age_days, recipe in ((30, 1), (20, 2), (10, 3)):
        names.append(build(tmp_path, recipe_version=recipe).version)
        os.utime(tmp_path / "toy" / names[-1] / MANIFEST_KEY, times=(NOW_S - age_days * DAY_S,) * 2)
    return LocalStore(tmp_path / "toy"), names


def there(dataset: LocalStore) -> set[str]:
    return {state.version for state in published_versions(dataset)}


# ------------------------------------------------------------------------------------------------------------- the rule


def test_the_latest_and_the_youngest_are_kept_and_the_rest_goes(three):
    dataset, (oldest, middle, newest) = three
    done = prune(dataset, keep=2, now_s=NOW_S)
    assert done.removed == (oldest,)
    assert done.kept == {newest: "it is the latest", middle: "it is one of the 2 youngest"}
    assert there(dataset) == {middle, newest}
    assert not [path for path in dataset.root.iterdir() if path.name.startswith(".removed")]


def test_the_latest_is_kept_though_it_is_not_the_youngest(three, build, tmp_path):
    dataset, (oldest, _, newest) = three
    build(tmp_path, recipe_version=1)  # found there, and pointed to
    assert set(prune(dataset, keep=1, now_s=NOW_S).kept) == {oldest}
    assert newest not in there(dataset)


@pytest.mark.parametrize(("days", "left"), [(5, 1), (15, 1), (25, 2), (35, 3)])
def test_what_was_published_within_some_days_is_kept(three, days, left):
    dataset, _ = three
    prune(dataset, keep=1, keep_days=days, now_s=NOW_S)
    assert len(there(dataset)) == left


def test_a_clock_that_went_backwards_removes_nothing_that_days_would_have_kept(three):
    dataset, versions = three
    prune(dataset, keep=1, keep_days=5, now_s=NOW_S - 400 * DAY_S)
    assert there(dataset) == set(versions)


def test_an_unfinished_build_is_neither_counted_nor_removed(three, plan, tables, write_shard):
    dataset, (_, _, newest) = three
    unfinished = plan(recipe_version=9)
    start_version(dataset.folder(unfinished.version), unfinished, tables)
    write_shard(dataset.folder(unfinished.version), unfinished, 0)
    prune(dataset, keep=1, now_s=NOW_S)
    assert there(dataset) == {newest}
    assert (dataset.root / unfinished.version / "receipts/00000.json").exists()


def test_nothing_is_pruned_while_somebody_builds(three):
    dataset, versions = three
    with builders_lock(dataset), pytest.raises(AlreadyBuilding):
        prune(dataset, keep=1, now_s=NOW_S)
    assert there(dataset) == set(versions)


def test_nothing_is_pruned_when_the_pointer_cannot_be_read(three):
    dataset, versions = three
    dataset.put("latest", b"{")
    with pytest.raises(DamagedObject, match="latest does not name a version"):
        prune(dataset, keep=1, now_s=NOW_S)
    assert there(dataset) == set(versions)


def test_no_version_at_all_and_no_data_set_are_refused(three, tmp_path):
    with pytest.raises(ValueError, match="--keep 0 would leave no version"):
        prune(three[0], keep=0, now_s=NOW_S)
    with pytest.raises(Unpublished, match="is not a data set"):
        prune(LocalStore(tmp_path / "nothing"), keep=1, now_s=NOW_S)
    assert not (tmp_path / "nothing").exists()


# ----------------------------------------------------------------------------------------------------------------- pins


def test_an_open_version_is_not_pruned_and_reads_on(three):
    dataset, (oldest, middle, newest) = three
    reader = open_dataset(dataset.root, oldest)
    assert prune(dataset, keep=1, now_s=NOW_S).kept == {
        newest: "it is the latest",
        oldest: f"version {oldest} is being read",
    }
    assert reader.read(range(len(reader)))["seed"].tolist() == [1_000_003 * n for n in (0, 1, 2, 4, 5, 6, 7, 9)]
    del reader
    assert prune(dataset, keep=1, now_s=NOW_S).removed == (oldest,)
    assert middle not in there(dataset)


def test_a_copy_in_a_worker_pins_for_itself(three):
    dataset, (oldest, _, _) = three
    reader = open_dataset(dataset.root, oldest)
    worker = copy.deepcopy(reader)  # what pickling to a worker does
    del reader
    assert oldest in prune(dataset, keep=1, now_s=NOW_S).kept
    del worker
    assert oldest in prune(dataset, keep=1, now_s=NOW_S).removed


def test_a_readers_pin_ends_with_its_process_and_is_seen_by_others(three):
    dataset, (oldest, _, _) = three
    script = "import sys, time\nfrom storage.dataset import open_dataset\nds = open_dataset(*sys.argv[1:])\n"
    script += "print('open', flush=True)\ntime.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(dataset.root), oldest], cwd=ROOT, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout.readline() == b"open\n"
        assert oldest in prune(dataset, keep=1, now_s=NOW_S).kept
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert prune(dataset, keep=1, now_s=NOW_S).removed == (oldest,)


def test_a_reader_keeps_its_version_though_a_damaged_manifest_was_written_anew(three, build, tmp_path):
    dataset, (oldest, middle, newest) = three
    reader = open_dataset(dataset.root, middle)
    (dataset.root / middle / MANIFEST_KEY).write_bytes(b"")
    build(tmp_path, recipe_version=2)  # another file now, and only the folder is the same
    build(tmp_path, recipe_version=3)
    done = prune(dataset, keep=1, now_s=NOW_S)
    assert set(done.kept) == {middle, newest}
    assert done.removed == (oldest,)
    assert reader[0]["seed"] == 0


def test_a_named_pin_lasts_until_it_is_taken_away(three):
    dataset, (oldest, middle, _) = three
    pin(dataset, oldest, "prnet-run-7")
    pin(dataset, oldest, "prnet-run-7")
    pin(dataset, oldest, "paper")
    assert named_pins(dataset) == {oldest: ["paper", "prnet-run-7"]}
    assert prune(dataset, keep=1, now_s=NOW_S).kept[oldest] == "pinned by paper, prnet-run-7"
    unpin(dataset, oldest, "prnet-run-7")
    unpin(dataset, oldest, "paper")
    with pytest.raises(NotPinned, match=f"version {oldest} of .* is not pinned by paper"):
        unpin(dataset, oldest, "paper")
    assert prune(dataset, keep=1, now_s=NOW_S).removed == (oldest,)
    assert middle not in there(dataset)


def test_only_what_is_there_can_be_pinned_and_by_a_plain_name(three):
    dataset, (oldest, _, _) = three
    with pytest.raises(Unpublished):
        pin(dataset, "0123456789abcdef", "run")
    for holder in ("../../latest", "", ".hidden", "two\nlines"):
        with pytest.raises(ValueError, match="a pin's holder is a plain name"):
            pin(dataset, oldest, holder)
    with pytest.raises(ValueError, match="a pin's version is a plain name"):
        pin(dataset, "../elsewhere", "run")
    assert named_pins(dataset) == {}


def test_nothing_is_pruned_beside_a_latest_that_cannot_be_read(three):
    dataset, (*_, newest) = three
    before, store = there(dataset), dataset.folder(newest)
    good = store.get(MANIFEST_KEY)
    (store.root / MANIFEST_KEY).write_bytes(good.replace(b"1", b"2", 1))
    with pytest.raises(DamagedObject, match="The command that built the data set, started again, writes it anew"):
        prune(dataset, keep=1, now_s=NOW_S)
    assert there(dataset) == before


def test_a_folder_of_data_sets_is_no_data_set_to_prune(three):
    dataset, _ = three
    parent = store_at(dataset.root.parent)
    with pytest.raises(Unpublished, match="is not a data set"):
        prune(parent, keep=1, now_s=NOW_S)
    assert not list(parent.root.glob(".lock"))


def test_a_reader_that_comes_while_a_version_goes_is_told_so(three):
    dataset, (oldest, _, _) = three
    locks = versions_module.lock_for_removal(dataset.root / oldest)
    with pytest.raises(Unpublished, match="is being removed at this moment"):
        ReadersPin(dataset.root / oldest)
    versions_module.release(locks)
    ReadersPin(dataset.root / oldest)


def test_a_removal_that_dies_leaves_a_whole_version_or_none_and_the_next_ends_it(three, monkeypatch):
    dataset, (oldest, middle, newest) = three
    monkeypatch.setattr("storage.versions.shutil.rmtree", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        prune(dataset, keep=1, now_s=NOW_S)
    assert there(dataset) == {oldest, newest}  # one was renamed away, the other not begun
    with pytest.raises(Unpublished):
        open_dataset(dataset.root, middle)
    assert verify(dataset.folder(oldest)) == []
    monkeypatch.undo()
    prune(dataset, keep=2, now_s=NOW_S)
    assert sorted(path.name for path in dataset.root.iterdir()) == sorted([".lock", "latest", oldest, newest])


# ----------------------------------------------------------------------------------------------------- no disturbance


def test_a_rebuild_beside_a_reader_does_not_disturb_it(tmp_path, build, sample):
    build(tmp_path)
    reader = open_dataset(tmp_path / "toy")
    began = reader.read([0, 1])
    for recipe in (2, 3):
        build(tmp_path, recipe_version=recipe)
    build(tmp_path)
    np.testing.assert_array_equal(reader.read([0, 1])["image"], began["image"])
    for index, slot in enumerate((0, 1, 2, 4, 5, 6, 7, 9)):
        np.testing.assert_array_equal(reader[index]["image"], sample(slot)["image"])


# ----------------------------------------------------------------------------------------------------------------- diff


def test_two_equal_versions_do_not_differ(tmp_path, build):
    build(tmp_path)
    found = diff_versions(open_dataset(tmp_path / "toy"), open_dataset(tmp_path / "toy"))
    assert found.is_empty
    assert found.n_same == 8


def test_a_diff_names_what_changed_of_config_model_sources_counts_and_samples(tmp_path, build, plan, tables):
    from storage.manifest import ModelInfo, SourceInfo

    first = build(tmp_path)
    second = build(
        tmp_path,
        holes=(0,),
        config={"size_px": 9, "jitter": 0.1, "flip": True},
        recipe_version=2,
        model=ModelInfo(name="somebody", fingerprint="1" * 32),
        sources=(SourceInfo(kind="numbers", n_files=21, fingerprint="cd" * 32),),
    )
    found = diff_versions(*(open_dataset(tmp_path / "toy", v) for v in (first.version, second.version)))
    assert found.config == {"recipe_version": (1, 2), "size_px": (7, 9), "flip": (None, True)}
    assert found.model == {"name": ("nobody", "somebody"), "fingerprint": ("0" * 32, "1" * 32)}
    assert set(found.sources) == {"0.n_files", "0.fingerprint"}
    assert found.counts == {"samples": (8, 9), "rejected": (2, 1), "reasons.toy.hole": (2, 1)}
    assert found.statistics == {} == found.targets
    assert found.added == (("AFW/übung_3", 0), ("AFW/übung_8", 0))
    assert found.removed == (("AFW/übung_0", 0),)
    assert found.changed == {}
    assert found.n_same == 7


def test_a_diff_names_the_samples_whose_stored_values_changed(tmp_path, build, plan, sample, tables):
    from storage.publish import draft_manifest, publish

    first = build(tmp_path, holes=())
    other = plan(recipe_version=2)
    store = LocalStore(tmp_path / "toy" / other.version)
    start_version(store, other, tables)
    for shard in range(3):
        writer = ShardWriter(store, other, shard)
        for slot in other.slots(shard):
            changed = {"image": sample(0)["image"]} if slot in (2, 9) else {}
            writer.add(slot, {**sample(slot), **changed})
        writer.finish()
    publish(store, draft_manifest(store, other, statistics={"mean": 2.5}))
    found = diff_versions(open_dataset(tmp_path / "toy", first.version), open_dataset(store.root))
    assert found.changed == {"image": (("AFW/übung_2", 0), ("AFW/übung_9", 0))}
    assert (found.added, found.removed, found.n_same) == ((), (), 8)
    assert found.statistics == {"mean": (1.5, 2.5)}
