"""Whatever is done to a store, in whatever order, what is read is what was written, or an error.

One state machine for both kinds of store: it publishes, rebuilds, dies, prunes, pins, reads, damages, verifies and repairs,
beside a model in memory that knows what every version holds and what was damaged. On S3, one in five requests fails in one
of six ways. More of it: ``pytest tests/storage/test_trust.py --hypothesis-profile=nightly``.
"""

import contextlib
import time

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from storage.dataset import ShardedDataset, open_dataset
from storage.local_store import LocalStore
from storage.manifest import MANIFEST_KEY, Unpublished, read_manifest
from storage.object_store import ObjectStore, ObjectStoreFailed, Patience
from storage.phases import Phase, observed
from storage.pins import named_pins, pin, unpin
from storage.publish import (
    AlreadyBuilding,
    BeingRemoved,
    builders_lock,
    constant_objects,
    draft_manifest,
    finished_shards,
    forget_damaged,
    is_published,
    latest_version,
    point_latest,
    publish,
    start_version,
)
from storage.schema import Schema
from storage.shards import ShardWriter
from storage.store import DamagedObject, MissingObject, Store
from storage.stores import store_at
from storage.verify import MendingStore, damage_of, verify
from storage.versions import prune, published_versions

RECIPES = (1, 2, 3)
N_SLOTS = 8
DAMAGES = ("flip", "cut", "delete", "other", "swap", "swap")
FRACTION = st.floats(0, 1, exclude_max=True)
LOUD = (MissingObject, DamagedObject, Unpublished, ObjectStoreFailed)
IMPATIENT = Patience(max_retries=3, first_pause_s=0.01, longest_pause_s=0.05)


class Killed(BaseException):
    """The process ends here."""


def made(recipe: int, slot: int) -> dict[str, object]:
    """The sample of a slot, other in every version."""
    rng = np.random.default_rng([recipe, slot])
    values = rng.integers(-2000, 9000, (5, 7, 3)) / 64
    return {"position_map": values.astype(np.float32), "seed": np.int64(1000 * recipe + slot)}


class Trust(RuleBasedStateMachine):
    """What both kinds of store promise. `disturbed` is the world as it is during an act; `calm`, while we look."""

    def __init__(self, dataset: Store, plan_of, disturbed=contextlib.nullcontext, calm=contextlib.nullcontext) -> None:
        super().__init__()
        self.dataset, self.disturbed, self.calm = dataset, disturbed, calm
        self.plans = {recipe: plan_of(recipe) for recipe in RECIPES}
        self.recipe_of = {plan.version: recipe for recipe, plan in self.plans.items()}
        self.published: set[str] = set()
        self.latest: str | None = None
        self.pinned: set[str] = set()
        self.damaged: dict[str, set[str]] = {}
        self.whole: dict[tuple[str, str], bytes] = {}  # what damaged objects were before
        self.held: list[ShardedDataset] = []

    @property
    def is_reliable(self) -> bool:
        return self.disturbed is contextlib.nullcontext

    # ----------------------------------------------------------------------------------------------------------- acts

    def build_once(self, recipe: int) -> None:
        plan = self.plans[recipe]
        with builders_lock(self.dataset) as dataset:
            store = dataset.folder(plan.version)
            if not is_published(store, plan):
                start_version(store, plan)
                finished = finished_shards(store, plan)
                for shard in range(plan.n_shards):
                    if shard not in finished:
                        self.write_shard(store, recipe, shard)
                try:
                    publish(store, draft_manifest(store, plan))
                except (DamagedObject, MissingObject):
                    forget_damaged(store, plan)
                    raise
            point_latest(dataset, plan.version)

    def write_shard(self, store: Store, recipe: int, shard: int) -> None:
        writer = ShardWriter(store, self.plans[recipe], shard)
        for slot in self.plans[recipe].slots(shard):
            writer.add(slot, made(recipe, slot))
        writer.finish()

    def until_done(self, act) -> None:
        """What a disturbed world interrupts is done again; in a calm one it succeeds."""
        for _ in range(2):
            try:
                with self.disturbed():
                    return act()
            except BeingRemoved:
                with self.calm(), contextlib.suppress(DamagedObject):  # of the latest: removals are ended before that
                    prune(self.dataset, keep=len(RECIPES), now_s=time.time())
            except (*LOUD, ValueError, AlreadyBuilding):  # a listing with a flipped bit names what is no object
                pass
        with self.calm():
            for _ in range(2):  # the first finds damage on the disk, and forgets it
                try:
                    return act()
                except (DamagedObject, MissingObject):
                    pass
                except BeingRemoved:
                    with contextlib.suppress(DamagedObject):
                        prune(self.dataset, keep=len(RECIPES), now_s=time.time())
            return act()

    def look_again(self) -> None:
        """After an act that may have ended anywhere: which versions are there, by their manifests."""
        with self.calm():
            self.published = {state.version for state in published_versions(self.dataset)}
            try:
                self.latest = latest_version(self.dataset)
            except (Unpublished, DamagedObject):
                self.latest = None

    @rule(recipe=st.sampled_from(RECIPES))
    def build(self, recipe):
        version, before = self.plans[recipe].version, set(self.published)
        mends_all = version not in self.published or MANIFEST_KEY in self.damaged.get(version, ())
        self.until_done(lambda: self.build_once(recipe))
        if mends_all:
            self.damaged[version] = set()
        self.look_again()
        assert self.published == before | {version}
        assert self.latest == version

    @rule(recipe=st.sampled_from(RECIPES), phase=st.sampled_from(Phase), nth=st.integers(0, 2))
    def die_while_building(self, recipe, phase, nth):
        version, before = self.plans[recipe].version, set(self.published)
        countdown = nth

        def die(reached, what):
            nonlocal countdown
            if reached == phase:
                countdown -= 1
                if countdown < 0:
                    raise Killed

        was_damaged = MANIFEST_KEY in self.damaged.get(version, ())
        with (
            contextlib.suppress(Killed, *LOUD, ValueError, AlreadyBuilding, BeingRemoved),
            observed(die),
            self.disturbed(),
        ):
            self.build_once(recipe)
        self.look_again()
        assert before <= self.published <= before | {version}
        if version in self.published:
            with self.calm():
                mended = was_damaged and is_published(self.dataset.folder(version), self.plans[recipe])
            if version not in before or mended:
                self.damaged[version] = set()
            elif was_damaged:  # its shards may be made again already, and the manifest is still what it was
                self.damaged[version] = {finding for finding in self.found_now(version)}

    @rule(version=st.sampled_from([None, *RECIPES]), indices=st.lists(st.integers(0, N_SLOTS - 1), max_size=3))
    def read(self, version, indices):
        name = self.latest if version is None else self.plans[version].version
        try:
            with self.disturbed():
                dataset = open_dataset(str(self.dataset.place), None if version is None else name)
                if dataset.manifest.version != name:
                    raise AssertionError("another version than the one that was asked for")
                read = dataset.read(indices)
        except LOUD:
            assert not (self.is_reliable and name in self.published and not self.damaged.get(name))
            return
        self.check(read, name, indices)

    @rule(recipe=st.sampled_from(RECIPES))
    def hold(self, recipe):
        version = self.plans[recipe].version
        if version in self.published and MANIFEST_KEY not in self.damaged.get(version, ()):
            with self.calm():
                self.held.append(open_dataset(str(self.dataset.place), version))

    @rule(indices=st.lists(st.integers(0, N_SLOTS - 1), min_size=1, max_size=3))
    def read_what_is_held(self, indices):
        for dataset in self.held:
            version = dataset.manifest.version
            try:
                with self.disturbed():
                    read = dataset.read(indices)
            except LOUD:
                assert not (self.is_reliable and not self.damaged.get(version)), "a reader was disturbed"
            else:
                self.check(read, version, indices)

    @rule()
    def let_go(self):
        self.held = self.held[1:]

    @rule(recipe=st.sampled_from(RECIPES))
    def pin(self, recipe):
        version = self.plans[recipe].version
        try:
            with self.calm():
                pin(self.dataset, version, "run-7")
        except Unpublished:
            assert version not in self.published
        else:
            assert version in self.published
            self.pinned.add(version)

    @rule()
    def unpin(self):
        for version in sorted(self.pinned)[:1]:
            with self.calm():
                unpin(self.dataset, version, "run-7")
            self.pinned.remove(version)

    @rule(keep=st.integers(1, 2))
    def prune(self, keep):
        before = set(self.published)
        done = None
        try:
            with self.disturbed():
                done = prune(self.dataset, keep=keep, now_s=time.time())
        except (*LOUD, ValueError):
            lost = self.latest is None or MANIFEST_KEY in self.damaged.get(self.latest, ())
            assert not self.is_reliable or not before or lost
        self.look_again()
        removed = before - self.published
        assert self.published <= before
        open_now = (
            {dataset.manifest.version for dataset in self.held} if isinstance(self.dataset, LocalStore) else set()
        )
        assert not removed & (self.pinned | open_now | {self.latest}), "what somebody uses was removed"
        if done is not None:
            assert set(done.removed) == removed
            assert set(done.kept) <= self.published
            if self.is_reliable:  # else a manifest that two false 404s hid is not spoken of, and stays
                assert set(done.kept) == self.published
            spared = [v for v in self.published if v not in self.pinned | open_now]
            assert len(spared) <= max(keep, len(self.published) - len(removed) if not removed else keep)
        for version in removed:
            self.damaged.pop(version, None)
        self.held = [dataset for dataset in self.held if dataset.manifest.version not in removed]

    @rule(recipe=st.sampled_from(RECIPES), kind=st.sampled_from(DAMAGES), which=st.integers(0, 99), place=FRACTION)
    def damage_anything(self, recipe, kind, which, place):
        self.damage(recipe, kind, which, place, lambda key: True)

    @rule(recipe=st.sampled_from(RECIPES), kind=st.sampled_from(DAMAGES), which=st.integers(0, 99), place=FRACTION)
    def damage_a_shard(self, recipe, kind, which, place):
        self.damage(recipe, kind, which, place, lambda key: "/c." in key)

    def damage(self, recipe, kind, which, place, is_wanted):
        version = self.plans[recipe].version
        with self.calm():
            store = self.dataset.folder(version)
            keys = [key for key in store.list() if is_wanted(key)]
            if not keys:
                return
            key = keys[which % len(keys)]
            bytes_now = raw(store, key)
            if not bytes_now or (key == MANIFEST_KEY and kind == "delete"):
                return  # nobody can tell that from a version that was never published
            twin = key.replace("c.0", "c.1")
            damaged = {
                "flip": lambda: flipped(bytes_now, int(place * 8 * len(bytes_now))),
                "cut": lambda: bytes_now[: int(place * (len(bytes_now) - 1))],
                "delete": lambda: None,
                "other": lambda: bytes(len(bytes_now)),
                "swap": lambda: raw(store, twin if twin in keys else keys[0]),
            }[kind]()
            if damaged == bytes_now:
                return
            overwrite(store, key, damaged)
            if version in self.published:
                spoilt = self.damaged.setdefault(version, set())
                if key not in spoilt:
                    self.whole[version, key] = bytes_now
                spoilt.add(key)
                if damaged == self.whole[version, key]:  # the same bit turned twice
                    spoilt.discard(key)
        self.every_sample_is_right_or_an_error(version)

    @rule(recipe=st.sampled_from(RECIPES))
    def verify(self, recipe):
        version = self.plans[recipe].version
        if version not in self.published:
            return
        store, damaged = self.dataset.folder(version), self.damaged.get(version, set())
        try:
            with self.disturbed():
                found = {finding.key for finding in verify(store)}
        except LOUD:
            assert not self.is_reliable
            return
        if MANIFEST_KEY in damaged:
            assert found == {MANIFEST_KEY}
        else:
            assert damaged <= found
            assert found == damaged or not self.is_reliable

    @rule(recipe=st.sampled_from(RECIPES))
    def repair(self, recipe):
        version = self.plans[recipe].version
        if version not in self.published:
            return
        if MANIFEST_KEY in self.damaged.get(version, ()):
            return
        self.until_done(lambda: self.repair_once(version))
        self.damaged[version] = set()

    def repair_once(self, version: str) -> None:
        store, recipe = self.dataset.folder(version), self.recipe_of[version]
        manifest = read_manifest(store)
        damage = damage_of(manifest, verify(store))
        mending = MendingStore(store, manifest, damage.keys)
        for key, content in constant_objects(self.plans[recipe], {}):
            mending.put(key, content)
        for shard in damage.shards:
            self.write_shard(mending, recipe, shard)

    # --------------------------------------------------------------------------------------------------------- checks

    def check(self, read: dict[str, np.ndarray], version: str, indices: list[int]) -> None:
        for row, index in enumerate(indices):
            for name, value in made(self.recipe_of[version], index).items():
                assert np.array_equal(read[name][row], value), "a wrong sample was read without a word"

    def found_now(self, version: str) -> set[str]:
        with self.calm():
            return {finding.key for finding in verify(self.dataset.folder(version))}

    def every_sample_is_right_or_an_error(self, version: str) -> None:
        try:
            with self.disturbed():
                dataset = open_dataset(str(self.dataset.place), version)
        except LOUD:
            return
        for index in range(N_SLOTS):
            with contextlib.suppress(*LOUD), self.disturbed():
                self.check(dataset.read([index]), version, [index])

    @invariant()
    def pins_are_there(self):
        with self.calm():
            assert set(named_pins(self.dataset)) == self.pinned <= self.published

    def teardown(self):
        """Nothing is lost: what was published is there, and what was not damaged is whole."""
        with self.calm():
            self.look_again()
            for version in self.published:
                found = self.found_now(version)
                damaged = self.damaged.get(version, set())
                assert found == ({MANIFEST_KEY} if MANIFEST_KEY in damaged else damaged)
                if not damaged:
                    self.check(
                        open_dataset(str(self.dataset.place), version).read(range(N_SLOTS)), version, range(N_SLOTS)
                    )
        self.held.clear()


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def raw(store: Store, key: str) -> bytes:
    """What lies there, unchecked."""
    if isinstance(store, LocalStore):
        return (store.root / key).read_bytes()
    return bytes(store._s3().get(key).bytes())


def overwrite(store: Store, key: str, data: bytes | None) -> None:
    """What a failing disk does: behind everybody's back, and leaving what is said about the object."""
    if data is None:
        store.delete(key)
    elif isinstance(store, LocalStore):
        (store.root / key).write_bytes(data)
    else:
        said = store._s3().get(key).attributes
        store._s3().put(key, data, attributes=said, use_multipart=False)


@pytest.fixture
def plan_of(plan):
    whole = plan().sample_schema
    schema = Schema(targets=(whole["position_map"], whole["seed"]))
    return lambda recipe: plan(recipe_version=recipe, sample_schema=schema, tables={}, n_slots=N_SLOTS)


def thoroughness(*, examples: int, steps: int) -> settings:
    """As often as the profile allows: a few for every push, many by night."""
    by_night = settings.default.max_examples > 100
    return settings(
        settings.default,
        max_examples=40 * examples if by_night else examples,
        stateful_step_count=steps * (1 + by_night),
    )


def test_a_local_store_can_be_trusted(plan_of, tmp_path):
    numbers = iter(range(10**6))

    def machine() -> Trust:
        return Trust(store_at(tmp_path / str(next(numbers)) / "toy"), plan_of)

    run_state_machine_as_test(machine, settings=thoroughness(examples=80, steps=30))


def test_an_object_store_can_be_trusted_though_one_request_in_five_fails(plan_of, s3_server):
    numbers = iter(range(10**6))

    def machine() -> Trust:
        n = next(numbers)
        dataset = ObjectStore(f"s3://faces/trust/{time.monotonic_ns()}/{n}/toy", IMPATIENT)
        return Trust(dataset, plan_of, lambda: s3_server.unreliable(0.2, hang_s=1.0), s3_server.calm)

    run_state_machine_as_test(machine, settings=thoroughness(examples=4, steps=10))
    assert sum(s3_server.injected.values()) > 20, "the door was never unreliable"
