"""An object store is a dictionary of bytes behind a network: whole, in order, or an error that says so."""

import os
import pickle
import random
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from storage.dataset import open_dataset
from storage.manifest import MANIFEST_KEY, Unpublished
from storage.object_store import ObjectStore, ObjectStoreFailed, Patience
from storage.phases import Phase, observed
from storage.pins import pin
from storage.publish import (
    REMOVAL_KEY,
    AlreadyBuilding,
    BeingRemoved,
    PublishedMeanwhile,
    draft_manifest,
    finished_shards,
    latest_version,
    publish,
    start_version,
)
from storage.store import DamagedObject, ExchangedObject, MissingObject, StoreUrl, place_of
from storage.stores import store_at
from storage.verify import verify
from storage.versions import prune, published_versions

QUICK = Patience(max_retries=3, first_pause_s=0.01, longest_pause_s=0.05)


@pytest.fixture
def url(s3_server, request):
    return StoreUrl(f"s3://faces/{zlib.crc32(request.node.nodeid.encode()):08x}")


@pytest.fixture
def store(url):
    return ObjectStore(url, QUICK)


@pytest.fixture
def bare(build):
    """A build of as few objects as there can be."""
    return lambda out, **changes: build(out, targets=("seed",), holes=(), tables={}, n_slots=8, **changes)


# ------------------------------------------------------------------------------------------------------- a dictionary


def test_an_object_store_is_a_dictionary(store):
    assert list(store.sizes()) == store.folders() == []
    store.put("a/b", [b"one", bytearray(b"two")])
    store.put("a/b", b"three")
    assert store.put_if_absent("c", b"x")
    assert not store.put_if_absent("c", b"y")
    assert (store.get("a/b"), store.get("a/b", (1, 3)), store.get("c"), store.get("c", (0, 0))) == (
        b"three",
        b"hr",
        b"x",
        b"",
    )
    assert list(store.sizes()) == [("a/b", 5), ("c", 1)]
    assert list(store.list("a/")) == list(store.list("a")) == ["a/b"]
    assert store.folders() == ["a"]
    assert abs(store.modified("c") - time.time()) < 60
    below = store.folder("a")
    assert (below.get("b"), list(below.list()), str(below.place)) == (b"three", ["b"], f"{store.url}/a")
    store.delete("a/b")
    store.delete("a/b")
    for act in (store.get, store.size, store.modified, store.open, lambda key: store.get(key, (0, 1))):
        with pytest.raises(MissingObject, match="a/b is missing"):
            act("a/b")
    with pytest.raises(DamagedObject, match="object c has 1 bytes, and bytes 0 to 4 were asked for"):
        store.get("c", (0, 4))
    with pytest.raises(ValueError, match="is not a key"):
        store.put("../other", b"")


def test_swapping_is_for_those_who_know_what_is_there(store):
    assert not store.swap("latest", b"old", b"new")
    assert store.swap("latest", None, b"old")
    assert not store.swap("latest", None, b"new")
    assert not store.swap("latest", b"older", b"new")
    assert store.swap("latest", b"old", b"new")
    assert store.get("latest") == b"new"


def test_of_many_writers_of_an_absent_object_one_wins(store):
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda i: store.put_if_absent("manifest.json", bytes([i]) * 100), range(8)))
    assert sum(won) == 1
    assert store.get("manifest.json") == bytes([won.index(True)]) * 100


def test_a_store_travels_as_its_address_and_holds_no_secret(store):
    store.put("a", b"1")
    packed = pickle.dumps(store)
    assert b"CANARY" not in packed
    assert pickle.loads(packed).get("a") == b"1"  # noqa: S301
    assert "CANARY" not in repr(store) + repr(vars(store))


@pytest.mark.parametrize("text", ["gs://bucket/x", "s3://", "s3:/bucket/x", "https://host/x"])
def test_an_address_of_another_kind_is_refused(text):
    with pytest.raises(ValueError, match="is neither a folder nor of the form s3://bucket/prefix"):
        place_of(text)


def test_an_address_with_a_secret_in_it_is_refused_without_repeating_it():
    """It would stand in a run's name, its log and the event of its failure."""
    with pytest.raises(ValueError, match="in the environment") as refused:
        place_of("s3://somebody:CANARY@faces/datasets")
    assert "CANARY" not in str(refused.value)
    assert place_of("s3://faces/me@home").name == "me@home"


def test_a_place_is_walked_like_a_path():
    place = place_of("s3://faces/datasets/") / "toy" / "v1"
    assert (str(place), place.name, place.parent.name) == ("s3://faces/datasets/toy/v1", "v1", "toy")
    assert store_at(place) == ObjectStore("s3://faces/datasets/toy/v1")


# --------------------------------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize("kind", ["503", "503 after", "404", "cut", "flip", "hang"])
def test_bytes_are_right_whatever_the_network_does(store, s3_server, kind):
    content = random.Random(1).randbytes(3000)
    store.put("a", content)
    before, good = s3_server.injected[kind], 0
    with s3_server.unreliable(0.3, seed=3, kinds=[kind], hang_s=1.0):
        for _ in range(8):
            try:
                good += store.get("a") == content
            except (MissingObject, DamagedObject, ObjectStoreFailed):
                continue
    assert s3_server.injected[kind] > before
    assert good >= 7


@pytest.mark.parametrize("kind", ["503", "503 after", "hang"])
def test_a_conditional_write_whose_answer_was_lost_is_known_as_ones_own(store, s3_server, kind):
    """The server has the object, the client was told of a failure, asks again and is refused: by itself."""
    with s3_server.unreliable(0.4, seed=5, kinds=[kind], hang_s=1.0):
        assert all(store.put_if_absent(f"own/{i}", bytes([i])) for i in range(6))
    assert [store.get(f"own/{i}") for i in range(6)] == [bytes([i]) for i in range(6)]


def test_an_object_that_rotted_is_not_given_out(store):
    store.put("a", b"0123456789")
    said = store._s3().get("a").attributes
    store._s3().put("a", b"0123456788", attributes=said, use_multipart=False)
    with pytest.raises(DamagedObject, match="does not match the SHA-256 that it was written with"):
        store.get("a")


def test_an_object_held_open_is_read_or_refused_but_never_another_that_took_its_place(store):
    store.put("a", b"0123456789")
    held = store.open("a")
    assert held.read(2, 5) == b"234"
    store.put("a", b"9876543210")
    for start, stop in ((2, 5), (8, 12)):
        with pytest.raises(ExchangedObject, match="object a was exchanged while it was read"):
            held.read(start, stop)
    assert store.get("a", (2, 5)) == store.open("a").read(2, 5) == b"765"
    store.delete("a")
    with pytest.raises(MissingObject, match="a is missing"):
        held.read(2, 5)
    store.put("a", b"0123456789")  # put back as it was
    assert held.read(2, 5) == b"234"


def test_an_exchange_is_noticed_where_the_server_does_not_know_conditions(store, s3_server, monkeypatch):
    ask = s3_server.ask

    def unconditional(method, path, body=None, headers=None):
        kept = {name: value for name, value in (headers or {}).items() if name.lower() != "if-match"}
        return ask(method, path, body, kept)

    monkeypatch.setattr(s3_server, "ask", unconditional)
    store.put("a", b"0123456789")
    held = store.open("a")
    assert held.read(2, 5) == b"234"
    store.put("a", b"9876543210")
    with pytest.raises(ExchangedObject):
        held.read(2, 5)


def test_failures_are_one_sentence_without_secrets(store, s3_server, monkeypatch):
    sentences = []
    with pytest.raises(ObjectStoreFailed, match="404 Not Found, NoSuchBucket") as no_bucket:
        ObjectStore("s3://no-such-bucket/x").put("a", b"")
    sentences.append(str(no_bucket.value))
    with (
        s3_server.unreliable(1.0, kinds=["503"]),
        pytest.raises(ObjectStoreFailed, match="503 Service Unavailable") as busy,
    ):
        store.get("a")
    sentences.append(str(busy.value))
    monkeypatch.setitem(os.environ, "AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(ObjectStoreFailed, match="no whole answer came from http://127.0.0.1:1 ") as nobody:
        ObjectStore(store.url, QUICK).get("a")
    sentences.append(str(nobody.value))
    assert not [text for text in sentences if "CANARY" in text or "\n" in text]
    assert all(
        error.value.__cause__ is None and error.value.__suppress_context__ for error in (no_bucket, busy, nobody)
    )


@pytest.mark.parametrize(
    ("setting", "address", "sentence"),
    [
        ("AWS_ENDPOINT_URL", "http://me:CANARY@127.0.0.1:1",
         r"from http://127.0.0.1:1 \(the connection was refused\); look at AWS_ENDPOINT_URL and the network; the same"),
        ("AWS_ENDPOINT_URL", "http://there-is-none.invalid",
         r"from http://there-is-none.invalid \(its name is not known\); look at AWS_ENDPOINT_URL and the network"),
        ("AWS_ENDPOINT_URL", "CANARY, mistyped",
         "^AWS_ENDPOINT_URL is no address of a server: it should be like https://host or http://host:port$"),
    ],
)  # fmt: skip
def test_a_server_that_cannot_be_reached_is_named_with_what_to_look_at(store, monkeypatch, setting, address, sentence):
    monkeypatch.setitem(os.environ, setting, address)
    for ask in (lambda store: store.get("a"), lambda store: store.list(""), lambda store: store.put("a", b"")):
        with pytest.raises(ObjectStoreFailed, match=sentence) as failed:
            ask(ObjectStore(store.url, Patience(max_retries=0, first_pause_s=0.01, longest_pause_s=0.05)))
        assert "CANARY" not in str(failed.value)


def test_a_server_that_says_nothing_is_said_to_be_silent(store, s3_server):
    store.put("a", b"")
    with (
        s3_server.unreliable(1.0, kinds=["hang"], hang_s=1.0),
        pytest.raises(ObjectStoreFailed, match=r"from http://127.* \(silence for longer than AWS_TIMEOUT\)"),
    ):
        ObjectStore(store.url, Patience(max_retries=0)).get("a")


def test_an_address_without_encryption_is_used_only_where_that_is_meant(store, monkeypatch):
    monkeypatch.delitem(os.environ, "AWS_ALLOW_HTTP")
    with pytest.raises(ObjectStoreFailed, match=r"without encryption, http://127.*; AWS_ALLOW_HTTP=true says"):
        ObjectStore(store.url).get("a")


def test_wrong_credentials_and_a_wrong_bucket_are_told_apart_from_a_bad_line_by_listings_too(store, s3_server):
    for ask in (lambda: store.get("a"), lambda: store.put("a", b""), lambda: store.list(""), lambda: store.folders()):
        with (
            s3_server.unreliable(1.0, kinds=["403"]),
            pytest.raises(ObjectStoreFailed, match="may not be used with these credentials .*403.* look at AWS_ACCESS"),
        ):
            ask()
    elsewhere = ObjectStore("s3://no-such-bucket/x")
    for ask in (lambda: elsewhere.get("a"), lambda: elsewhere.put("a", b""), lambda: elsewhere.list("")):
        with pytest.raises(ObjectStoreFailed, match="NoSuchBucket; make the bucket, or look at its name"):
            ask()


def test_without_credentials_nothing_is_asked_of_anybody(store, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delitem(os.environ, name)
    with pytest.raises(ObjectStoreFailed, match="needs credentials in the environment: AWS_ACCESS_KEY_ID"):
        ObjectStore(store.url).get("a")


def test_a_forked_child_is_refused_and_does_not_hang(store):
    store.put("a", b"1")
    pid = os.fork()
    if pid == 0:
        try:
            store.get("a")
        except RuntimeError as refused:
            os._exit(7 if "forkserver" in str(refused) else 8)
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


# --------------------------------------------------------------------------------------------------------- data sets


def test_a_data_set_on_s3_is_the_one_on_disk_object_for_object(url, build, tmp_path, files_of):
    some = {"targets": ("image", "position_map", "source_id"), "n_slots": 8}
    manifest = build(url, **some)
    build(tmp_path, **some)
    remote, local = store_at(url / "toy"), files_of(tmp_path / "toy")
    assert {key: remote.get(key) for key in remote.list()} == local
    assert not [key for key, data in local.items() if b"CANARY" in data]
    here, there = open_dataset(tmp_path / "toy"), open_dataset(str(url / "toy"))
    assert open_dataset(str(url / "toy" / manifest.version)).manifest == there.manifest == manifest
    for name, values in there.read([5, 0, 2]).items():
        np.testing.assert_array_equal(values, here.read([5, 0, 2])[name])
    np.testing.assert_array_equal(there.table("weight_mask"), here.table("weight_mask"))
    assert verify(there._store) == verify(there._store, full=False) == []
    with pytest.raises(Unpublished):
        open_dataset(str(url / "nothing"))
    with pytest.raises(Unpublished, match="no published version 0123"):
        open_dataset(str(url / "toy"), "0123")


def test_an_interrupted_build_on_s3_goes_on_from_its_receipts(url, bare):
    class Killed(BaseException):
        pass

    def die(phase, what):
        if (phase, what) == (Phase.RECEIPT, "receipts/00001.json"):
            raise Killed

    with pytest.raises(Killed), observed(die):
        bare(url)
    with pytest.raises(Unpublished):
        open_dataset(str(url / "toy"))
    made = []
    with observed(lambda phase, what: made.append(what) if phase == Phase.SHARD else None):
        bare(url)
    assert made == ["seed/c.1"]
    assert len(open_dataset(str(url / "toy"))) == 8


def test_of_two_builders_the_first_manifest_wins_and_the_other_leaves(url, bare):
    """The second publishes in the moment in which the first is about to."""
    versions = []

    def overtaken(phase, what):
        if phase == Phase.PUBLISH and not versions:
            versions.append("")
            versions[0] = bare(url).version

    with observed(overtaken), pytest.raises(PublishedMeanwhile, match="another builder has published") as lost:
        bare(url)
    assert isinstance(lost.value, AlreadyBuilding)  # which the command line ends with exit code 4
    dataset = open_dataset(str(url / "toy"))
    assert dataset.manifest.version == versions[0]
    assert verify(dataset._store) == []


def test_shards_of_a_published_version_are_never_written_over_by_a_late_builder(url, bare, plan, write_shard, tables):
    manifest = bare(url)
    store = store_at(url / "toy" / manifest.version)
    before = store.get("seed/c.0")
    write_shard(store, manifest.plan, 0)  # the same bytes: nothing to do
    with pytest.raises(PublishedMeanwhile):
        write_shard(store, manifest.plan, 0, holes=(1,))
    assert store.get("seed/c.0") == before
    assert verify(store) == []


def test_a_missing_shard_on_s3_is_an_error_and_not_a_fill_value(url, bare):
    dataset = open_dataset(str(url / "toy" / bare(url).version))
    dataset._store.delete("seed/c.1")
    with pytest.raises(MissingObject, match=r"seed/c\.1"):
        dataset.read([5])
    assert dataset.read([0, 3])["seed"].tolist() == [0, 3 * 1_000_003]
    assert [finding.problem for finding in verify(dataset._store, full=False)] == ["missing"]


def test_an_open_data_set_on_s3_notices_that_a_shard_was_exchanged_and_that_it_was_put_back(url, bare):
    """Samples of one target have one length: the other shard's chunk lies in the same place, and passes its checksum."""
    dataset = open_dataset(str(url / "toy" / bare(url).version))
    right = dataset.read([0, 5])["seed"].tolist()
    store = ObjectStore(dataset._store.url, QUICK)
    first, second = store.get("seed/c.0"), store.get("seed/c.1")
    store.put("seed/c.0", second)
    store.put("seed/c.1", first)
    for index in (0, 5):
        with pytest.raises(DamagedObject, match="belongs to another array, shard or data set"):
            dataset.read([index])
    store.put("seed/c.0", first)
    assert dataset.read([0])["seed"].tolist() == right[:1]
    store.put("seed/c.1", second + b"0")
    with pytest.raises(DamagedObject, match=r"seed/c\.1 has \d+ bytes where the manifest says"):
        dataset.read([5])
    store.put("seed/c.1", second)
    assert dataset.read([0, 5])["seed"].tolist() == right


def test_noticing_an_exchange_costs_no_request(url, bare, s3_server, monkeypatch):
    dataset = open_dataset(str(url / "toy" / bare(url).version))
    dataset.read([0, 5])  # opens both objects
    ask, asked = s3_server.ask, []

    def counted(method, path, body=None, headers=None):
        asked.append(method)
        return ask(method, path, body, headers)

    monkeypatch.setattr(s3_server, "ask", counted)
    dataset.read([0, 1, 5])
    assert asked == ["GET"] * 3


def test_pruning_s3_keeps_what_is_pinned_and_the_latest(url, bare):
    versions = [bare(url, recipe_version=recipe).version for recipe in (1, 2, 3)]
    dataset = store_at(url / "toy")
    pin(dataset, versions[0], "prnet-run-7")
    done = prune(dataset, keep=1, now_s=time.time())
    assert done.removed == (versions[1],)
    assert done.kept == {versions[2]: "it is the latest", versions[0]: "pinned by prnet-run-7"}
    assert not list(dataset.folder(versions[1]).list())
    assert {state.version for state in published_versions(dataset)} == {versions[0], versions[2]}
    assert latest_version(dataset) == versions[2]


def test_a_removal_on_s3_that_died_is_not_built_upon_and_the_next_pruning_ends_it(url, bare, plan):
    old = bare(url)
    bare(url, recipe_version=2)
    dataset, store = store_at(url / "toy"), store_at(url / "toy" / old.version)
    store.put(REMOVAL_KEY, b"")
    store.delete(MANIFEST_KEY)  # and here it died
    with pytest.raises(BeingRemoved, match="facefoundry prune"):
        bare(url)
    prune(dataset, keep=1, now_s=time.time())
    assert not list(store.list())
    assert bare(url) == old


def test_who_pins_a_version_that_is_going_is_told_or_saves_it(url, bare):
    old = bare(url).version
    bare(url, recipe_version=2)
    dataset = store_at(url / "toy")
    dataset.folder(old).put(REMOVAL_KEY, b"")
    with pytest.raises(Unpublished, match="being removed"):
        pin(dataset, old, "late")
    dataset.put(f"pins/{old}/early", b"")  # came before the mark, after the look
    assert prune(dataset, keep=1, now_s=time.time()).kept[old] == "pinned by early"
    assert verify(dataset.folder(old)) == []
    bare(url)


def test_a_publication_is_whole_though_one_request_in_five_fails(url, bare, s3_server):
    store = ObjectStore(url / "toy", QUICK)
    with s3_server.unreliable(0.2, seed=11, hang_s=1.0):
        for _ in range(5):
            try:
                manifest = bare(url)
                break
            except (MissingObject, DamagedObject, ObjectStoreFailed, AlreadyBuilding):
                continue
    try:
        manifest = bare(url)
    except PublishedMeanwhile:  # by this one's own request, whose client had given it up
        manifest = bare(url)
    assert verify(store.folder(manifest.version)) == []
    assert open_dataset(str(store.url)).read(range(8))["seed"].tolist() == [1_000_003 * n for n in range(8)]
    assert sorted(finished_shards(store.folder(manifest.version), manifest.plan, full=True)) == [0, 1]


def test_publishing_what_another_published_with_other_bytes_is_refused(url, bare):
    manifest = bare(url)
    store = store_at(url / "toy" / manifest.version)
    start_version(store, manifest.plan)
    with pytest.raises(ValueError, match="holds something else; a version never changes"):
        publish(store, draft_manifest(store, manifest.plan, statistics={"mean": 2.5}))
