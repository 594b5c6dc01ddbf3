"""Views: they read as the data sets that they are of, whoever is in one part is in no other, and nothing is copied."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.source_groups import joined, photograph_of, place_of_group, side_of_300w
from storage.views import concatenate, mix, select, split, subset


@pytest.fixture(scope="module")
def faces(small_faces, tmp_path_factory):
    return small_faces.build(tmp_path_factory.mktemp("views"), holes=(4,))


@pytest.fixture(scope="module")
def others(small_faces, tmp_path_factory):
    names = [f"mine/person{n}_0" for n in range(7)]
    return small_faces.build(
        tmp_path_factory.mktemp("views"), dataset="mine", names=names, source_id_bytes=48, shard_size=3
    )


def ids(dataset) -> list[str]:
    return dataset.read(range(len(dataset)), ["source_id"])["source_id"].tolist()


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name])


@settings(max_examples=25)
@given(data=st.data())
def test_a_view_reads_what_its_parts_read_at_any_numbers_in_any_order(faces, others, data):
    parts = (faces, others)
    picks = data.draw(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6)), min_size=1, max_size=12))
    both = concatenate(parts)
    view = select(both, [index + part * len(faces) for part, index in picks])
    asked = data.draw(st.lists(st.integers(-len(view), len(view) - 1), max_size=8))
    read = view.read(asked)
    for row, number in enumerate(asked):
        part, index = picks[number]
        same(
            {name: values[row] for name, values in read.items()},
            {n: v[0] for n, v in parts[part].read([index]).items()},
        )


def test_pictures_of_a_mixed_batch_lie_in_memory_as_those_of_one_data_set(faces, others):
    batch = concatenate([faces, others]).read([0, len(faces)])
    assert batch["image"].strides == faces.read([0, 1])["image"].strides
    assert batch["image"].shape == (2, 32, 32, 3)


def test_a_view_of_a_view_holds_the_data_sets_themselves(faces, others):
    inner = select(concatenate([faces, others]), range(3, 14))
    outer = select(select(inner, slice(1, None, 2)), [-1, 0])
    assert outer.parts == (faces, others)
    assert ids(outer) == [ids(inner)[i] for i in (9, 1)]


def test_a_predicate_sees_the_index_and_chooses_by_it(faces):
    steep = select(faces, lambda index: np.abs(index["yaw_deg"]) > 50)
    yaws = np.degrees(steep.read(range(len(steep)), ["pose"])["pose"][:, 1])
    assert len(steep) == int((np.abs(np.degrees(faces.read(range(len(faces)), ["pose"])["pose"][:, 1])) > 50).sum())
    assert (np.abs(yaws) > 50).all()
    with pytest.raises(ValueError, match="one bool for each of the 9 samples"):
        select(faces, lambda index: np.flatnonzero(index["yaw_deg"] > 0))


def test_numbers_outside_are_refused(faces):
    with pytest.raises(IndexError, match="sample 9 is outside"):
        select(faces, [0, 9])
    with pytest.raises(IndexError, match="whole numbers"):
        select(faces, np.array([0.5]))
    with pytest.raises(IndexError, match="outside this view of 2"):
        select(faces, [0, 1]).read([2])


def test_runs_of_a_view_are_its_shards_and_hold_every_sample_once(faces, others):
    both = concatenate([faces, others])
    assert both.shard_sizes.tolist() == [*faces.shard_sizes.tolist(), *others.shard_sizes.tolist()]
    assert select(faces, [0, 1, 5, 4, 2]).shard_sizes.tolist() == [2, 2, 1]
    assert select(faces, []).shard_sizes.tolist() == []


def test_equal_views_have_equal_fingerprints_and_others_have_others(faces):
    assert select(faces, [1, 2]).manifest.fingerprint == select(faces, [1, 2]).manifest.fingerprint
    different = {select(faces, numbers).manifest.fingerprint for numbers in ([1, 2], [2, 1], [1], [1, 2, 2])}
    assert len(different | {faces.manifest.fingerprint}) == 5


def test_a_view_survives_pickling_and_copying(faces, others):
    view = select(concatenate([faces, others]), [12, 0, 5])
    for again in (pickle.loads(pickle.dumps(view)), copy.deepcopy(view)):  # noqa: S301
        assert again.manifest == view.manifest
        same(again.read([0, 1, 2]), view.read([0, 1, 2]))


def test_data_sets_that_read_differently_do_not_go_together(faces, build, tmp_path):
    build(tmp_path)
    from storage.dataset import open_dataset

    toy = open_dataset(tmp_path / "toy")
    with pytest.raises(ValueError, match=r"differ in the targets .*name those that you need"):
        concatenate([faces, toy])
    with pytest.raises(ValueError, match="landmarks_px has sample_shape"):
        concatenate([faces, toy], targets=["landmarks_px"])
    assert ids(concatenate([faces, toy], targets=["source_id", "mirrored"]))[-1].startswith("AFW/übung")


def test_tables_and_models_are_given_only_where_all_parts_have_the_same(faces, others, build, tmp_path):
    from storage.dataset import open_dataset

    assert np.array_equal(concatenate([faces, others]).table("weight_mask"), faces.table("weight_mask"))
    build(tmp_path)
    mixed = concatenate([faces, open_dataset(tmp_path / "toy")], targets=["source_id"])
    with pytest.raises(ValueError, match="different tables weight_mask"):
        mixed.table("weight_mask")


# --------------------------------------------------------------------------------------------------------------- split


@pytest.mark.parametrize(
    ("source_id", "photograph"),
    [
        ("HELEN/HELEN_232194_1_0", "HELEN/HELEN_232194_1"),
        ("HELEN_Flip/HELEN_232194_1_17", "HELEN/HELEN_232194_1"),
        ("deep/er/AFW_Flip/AFW_11_1_2", "deep/er/AFW/AFW_11_1"),
        ("IBUG_image_008_1_2_Flip", "IBUG_image_008_1"),
        ("image00050", "image00050"),
    ],
)
def test_all_views_of_a_photograph_and_their_mirror_images_are_one_photograph(source_id, photograph):
    assert photograph_of(source_id) == photograph


@settings(max_examples=25)
@given(seed=st.integers(0, 50), share=st.floats(0.2, 0.8))
def test_no_photograph_is_in_two_parts_of_a_split_and_every_sample_is_in_one(faces, seed, share):
    parts = split(faces, {"train": share, "test": 1 - share}, seed=seed)
    train, test = ([photograph_of(name) for name in ids(part)] for part in parts.values())
    assert not set(train) & set(test)
    assert sorted(ids(parts["train"]) + ids(parts["test"])) == sorted(ids(faces))


def test_a_growing_data_set_moves_nobody(small_faces, faces, tmp_path):
    more = small_faces.build(tmp_path, names=[*small_faces.NAMES, *(f"AFW/AFW_{n}_1_0" for n in range(20, 40))])
    before = set(ids(split(faces, {"train": 0.6, "test": 0.4})["train"]))
    after = set(ids(split(more, {"train": 0.6, "test": 0.4})["train"]))
    assert before == after & set(ids(faces))


def test_shares_are_kept_on_average():
    places = np.array([place_of_group(f"photograph {n}", seed=3) for n in range(4000)])
    assert abs(np.mean(places < 0.9) - 0.9) < 0.02
    assert places.min() >= 0
    assert places.max() < 1


def test_splitting_by_identity_keeps_a_persons_photographs_together(small_faces, tmp_path):
    names = [f"AFW/AFW_{n}_1_0" for n in range(24)]
    people = [n % 6 for n in range(24)]
    drawn = small_faces.build(tmp_path, names=names, identities=people)
    by_photograph = split(drawn, {"a": 0.5, "b": 0.5}, seed=1)
    assert {int(name.split("_")[1]) % 6 for name in ids(by_photograph["a"])} & {
        int(name.split("_")[1]) % 6 for name in ids(by_photograph["b"])
    }
    for seed in range(5):
        parts = split(drawn, {"a": 0.5, "b": 0.5}, by="identity", seed=seed)
        a, b = ({int(name.split("_")[1]) % 6 for name in ids(part)} for part in parts.values())
        assert not a & b
        assert a | b == set(range(6))


def test_a_function_can_say_who_is_who(faces):
    parts = split(faces, {"a": 0.5, "b": 0.5}, by=lambda name: name.split("/")[0].removesuffix("_Flip"))
    a, b = ({name.split("/")[0].removesuffix("_Flip") for name in ids(part)} for part in parts.values())
    assert not a & b


def test_the_named_split_trains_on_afw_and_the_training_pictures_of_lfpw_and_helen(faces):
    parts = split(faces, "300w")
    assert sorted(ids(parts["train"])) == [
        "AFW/AFW_11_1_0", "AFW/AFW_11_1_1", "AFW_Flip/AFW_11_1_0", "HELEN/HELEN_232194_1_0",
        "LFPW/LFPW_image_train_0001_0", "LFPW_Flip/LFPW_image_train_0001_3",
    ]  # fmt: skip
    assert sorted(ids(parts["test"])) == [
        "IBUG/IBUG_image_008_1_0", "IBUG_Flip/IBUG_image_008_1_2", "LFPW/LFPW_image_test_0002_0",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("source_id", "side"),
    [
        ("HELEN/HELEN_2965035072_1_0", "train"),
        ("HELEN/HELEN_296814969_3_0", "test"),
        ("HELEN_Flip/HELEN_30427236_1_4", "test"),
        ("HELEN/HELEN_100032540_1_0", "train"),
        ("AFW/astronaut_0", "train"),
        ("IBUG_image_008_1_0", "test"),
        ("LFPW/LFPW_image_0001_0", None),
        ("mine/portrait_0", None),
    ],
)
def test_sides_of_300w_are_read_off_the_names(source_id, side):
    assert side_of_300w(source_id) == side


def test_what_is_of_no_side_is_named(others):
    assert {name: len(part) for name, part in split(others, "300w").items()} == {"train": 0, "test": 0, "other": 7}


def test_shares_that_do_not_add_up_are_refused(faces):
    with pytest.raises(ValueError, match="must add up to 1"):
        split(faces, {"train": 0.9, "test": 0.2})


@given(st.lists(st.lists(st.integers(0, 12), max_size=3), max_size=12))
def test_groups_are_the_connected_parts(keys):
    groups = joined(keys)
    for i, mine in enumerate(keys):
        reached, border = {i}, set(mine)
        while more := {j for j, other in enumerate(keys) if j not in reached and border & set(other)}:
            reached |= more
            border |= {key for j in more for key in keys[j]}
        assert [j for j, group in enumerate(groups) if group == groups[i]] == sorted(reached)


# ----------------------------------------------------------------------------------------------------------------- mix


@given(weights=st.tuples(st.floats(0.1, 9), st.floats(0.1, 9)), n=st.integers(1, 60), seed=st.integers(0, 9))
def test_a_mixture_has_the_shares_of_its_weights_and_repeats_evenly(faces, others, weights, n, seed):
    view = mix([(faces, weights[0]), (others, weights[1])], n_samples=n, seed=seed)
    exact = n * np.array(weights) / sum(weights)
    for part, dataset in enumerate((faces, others)):
        times = np.bincount(view.index_in_part[view.part_of_sample == part], minlength=len(dataset))
        assert abs(times.sum() - exact[part]) < 1
        assert times.max() - times.min() <= 1
    assert len(view) == n


def test_a_mixture_is_as_large_as_it_can_be_without_a_sample_twice(faces, others):
    view = mix([(faces, 3), (others, 1)])
    assert len(view) == 12
    assert np.bincount(view.part_of_sample).tolist() == [9, 3]
    assert view.manifest == mix([(faces, 3), (others, 1)]).manifest
    assert view.manifest != mix([(faces, 3), (others, 1)], seed=1).manifest
    with pytest.raises(ValueError, match="positive weights"):
        mix([(faces, 1), (others, 0)])


def test_a_subset_has_no_sample_twice_and_depends_on_the_seed(faces):
    assert len(set(ids(subset(faces, 9)))) == 9
    assert len({tuple(ids(subset(faces, 4, seed=seed))) for seed in range(6)}) > 1
    with pytest.raises(ValueError, match="10 samples cannot be drawn from 9"):
        subset(faces, 10)
