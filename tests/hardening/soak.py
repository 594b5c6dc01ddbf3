"""A week of use in an hour: builds, kills, rebuilds, prunes, readers, damage and repairs, at random, on a small data set.

``python -m tests.hardening.soak --minutes 60 --seed 1``

Three versions of one data set are built undisturbed first: their bytes, and the digests of their samples, are what all later
acts are held to. Then acts are drawn until the time is over. Builders and repairs are processes of their own, and the kills
are SIGKILL. After every act each published version is whole (or exactly as damaged as we damaged it), and nothing else can be
opened. Two readers, in processes of their own, hold a version open and read it over and over while all that goes on.

Exit code 0: no sample was wrong without a word, nothing was half, and no descriptor, process or temporary file was left.
"""

import argparse
import contextlib
import json
import multiprocessing.util
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.forkserver import _forkserver
from multiprocessing.resource_tracker import _resource_tracker
from pathlib import Path

from flows.config import PosmapConfig
from render.crop import CropConfig
from storage.dataset import open_dataset
from storage.local_store import LocalStore
from storage.manifest import MANIFEST_KEY, Unpublished
from storage.pins import pin, unpin
from storage.publish import latest_version
from storage.store import DamagedObject, MissingObject
from storage.synthetic import write_sample_folder
from storage.verify import verify
from storage.versions import prune, published_versions
from tests.hardening.builders import build, digest_of_sample, files_of, forkserver, repair, samples_of
from tests.hardening.faults import FaultPlan, Room

LOUD = (MissingObject, DamagedObject, Unpublished)
MARK = "FACEFOUNDRY_SOAK"
"""A variable that every process of a soak has: so those that nobody waits for any more are found."""
CONFIGS = (
    PosmapConfig(crop=CropConfig(size_px=48), shard_size=4),
    PosmapConfig(crop=CropConfig(size_px=48), shard_size=4, maps="parametric"),
    PosmapConfig(crop=CropConfig(size_px=48), shard_size=4, images="jpeg:90", copies=2),
)
FAULTS = {
    "plan": ("kill", "out_of_memory", "disk_full", "clock_back"),
    "shard": ("kill", "out_of_memory", "memory_limit", "disk_full", "input_output_error", "flipped_bit", "no_descriptors"),
    "receipt": ("kill", "disk_full", "input_output_error", "cut_short", "lost_object", "interrupt"),
    "verify": ("kill", "input_output_error", "flipped_bit", "cut_short", "lost_object", "swapped_shards"),
    "publish": ("kill", "disk_full", "input_output_error", "out_of_memory"),
    "event": ("kill", "disk_full", "clock_on", "interrupt"),
}  # fmt: skip
ACTS = (
    ("build", 4), ("kill a build", 8), ("build with a fault", 8), ("two builders", 1), ("build with two workers", 1),
    ("damage and repair", 6), ("damage, and kill the repair", 2), ("damage the manifest and rebuild", 1),
    ("prune", 3), ("pin and prune", 1), ("read everything", 3), ("ask the readers", 6), ("kill a reader", 1),
)  # fmt: skip


@dataclass(slots=True)
class Version:
    """What a version is, undisturbed."""

    config: PosmapConfig
    name: str
    files: dict[str, str]
    samples: list[str]


@dataclass(slots=True)
class Reader:
    """A process that holds a version open, and what it has open."""

    process: ForkServerProcess
    pipe: Connection
    version: str


@dataclass(slots=True)
class Soak:
    """The world of one run. `problems` is what must be empty at the end."""

    room: Room
    rng: random.Random
    context: ForkServerContext
    versions: dict[str, Version] = field(default_factory=dict)
    readers: list[Reader] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    samples_read: int = 0
    build_s: float = 1.0
    pools_killed: int = 0

    @property
    def dataset(self) -> LocalStore:
        return LocalStore(self.room.out / CONFIGS[0].name)

    # ------------------------------------------------------------------------------------------------------------ setting up

    def set_up(self) -> None:
        """Draw the source and build each version undisturbed, in an output folder of its own."""
        write_sample_folder(self.room.source, n_identities=2, n_expressions=1, n_views=2)
        for number, config in enumerate(CONFIGS):
            alone = Room(self.room.folder / f"alone-{number}")
            alone.folder.mkdir()
            (alone.folder / "source").symlink_to(self.room.source)
            begin = time.monotonic()
            assert self.ended(self.start(alone, config)) == 0, alone.told("sentence")
            self.build_s = time.monotonic() - begin
            folder = alone.out / config.name
            name = latest_version(LocalStore(folder))
            self.versions[name] = Version(config, name, files_of(folder / name), samples_of(folder / name))
            shutil.rmtree(alone.folder)
        assert self.ended(self.start(self.room, CONFIGS[0])) == 0
        self.room.log.unlink()
        for _ in range(2):
            self.readers.append(self.new_reader())

    def start(self, room: Room, config: PosmapConfig, **options: object) -> ForkServerProcess:
        child = self.context.Process(target=build, args=(room, config), kwargs=options)
        child.start()
        return child

    def ended(self, child: ForkServerProcess, patience_s: float = 600) -> int:
        """A child's exit code; its descriptors are given back."""
        child.join(patience_s)
        if child.is_alive():
            self.problems.append("a process hung")
            child.kill()
            child.join()
        code = child.exitcode
        child.close()
        return code

    def new_reader(self) -> Reader:
        """A process that opens a version of now and keeps it."""
        version = self.rng.choice([state.version for state in published_versions(self.dataset)])
        here, there = self.context.Pipe()
        process = self.context.Process(target=read_for_ever, args=(there, self.dataset.root / version))
        process.start()
        there.close()
        reader = Reader(process, here, version)
        if here.recv() != len(self.versions[version].samples):
            self.problems.append("a reader opened something else")
        return reader

    # ----------------------------------------------------------------------------------------------------------------- acts

    def act(self) -> None:
        """One act, and the look around after it."""
        name = self.rng.choices([name for name, _ in ACTS], [weight for _, weight in ACTS])[0]
        self.counts[name] += 1
        before = {state.version for state in published_versions(self.dataset)}
        getattr(self, f"do_{name.replace(',', '').replace(' ', '_')}")()
        self.look_around(name, before)

    def any_version(self) -> Version:
        return self.rng.choice(list(self.versions.values()))

    def do_build(self) -> None:
        version = self.any_version()
        self.expect(
            self.ended(self.start(self.room, version.config)) == 0, f"an undisturbed build failed: {self.told()}"
        )

    def do_build_with_two_workers(self) -> None:
        version = self.any_version()
        code = self.ended(self.start(self.room, version.config, workers=2))
        self.expect(code == 0, f"a build with two workers failed: {self.told()}")

    def do_kill_a_build(self) -> None:
        version = self.any_version()
        self.unfinish(version)
        workers = self.rng.choice((1, 1, 1, 2))
        child = self.start(self.room, version.config, workers=workers)
        child.join(self.rng.uniform(0.0, 1.1) * self.build_s)
        if child.is_alive():
            self.faults["kill of a build"] += 1
            self.pools_killed += workers > 1
            child.kill()
        self.ended(child)

    def do_build_with_a_fault(self) -> None:
        version = self.any_version()
        self.unfinish(version)
        phase = self.rng.choice(list(FAULTS))
        fault = self.rng.choice(FAULTS[phase])
        probability = self.rng.choice((0.05, 0.3, 1.0)) if phase in ("shard", "receipt") else 1.0
        plan = FaultPlan({phase: {fault: probability}}, self.rng.randrange(1 << 30))
        damages = fault in ("flipped_bit", "cut_short", "lost_object", "swapped_shards")
        code = self.ended(self.start(self.room, version.config, plan=plan))
        struck = self.room.told("struck")
        self.faults.update(struck)
        if code == 0 or (damages and code == 3):
            return
        self.expect(code in (3, -signal.SIGKILL), f"{fault} at {phase} ended with code {code}: {self.told()}")
        self.expect(bool(struck), f"a build failed without a fault ({fault} at {phase} was planned): {self.told()}")

    def do_two_builders(self) -> None:
        version = self.any_version()
        self.unfinish(version)
        children = [self.start(self.room, version.config) for _ in range(2)]
        codes = sorted(self.ended(child) for child in children)
        ends = self.room.told("ended")
        right = codes == [0, 0] or (codes == [0, 3] and "AlreadyBuilding" in ends)
        self.expect(right, f"two builders ended with {codes}: {ends}")

    def do_damage_and_repair(self) -> None:
        self.damaged_and_mended(kill=False)

    def do_damage_and_kill_the_repair(self) -> None:
        self.damaged_and_mended(kill=True)

    def damaged_and_mended(self, *, kill: bool) -> None:
        version = self.versions[self.rng.choice([state.version for state in published_versions(self.dataset)])]
        store = self.dataset.folder(version.name)
        damaged = {
            self.damage(store, key) for key in self.rng.sample(sorted(version.files), self.rng.choice((1, 1, 2, 5)))
        }
        damaged -= {""}
        found = {finding.key for finding in verify(store)}
        self.expect(found == damaged, f"verify named {sorted(found)} where {sorted(damaged)} were damaged")
        self.read_while_damaged(version)
        if kill:
            child = self.context.Process(target=repair, args=(self.room, version.name))
            child.start()
            child.join(self.rng.uniform(0, 1) * self.build_s)
            self.faults["kill of a repair"] += child.is_alive()
            child.kill()
            self.ended(child)
            self.read_while_damaged(version)
        child = self.context.Process(target=repair, args=(self.room, version.name))
        child.start()
        self.expect(self.ended(child) == 0, f"a repair failed: {self.told()}")

    def damage(self, store: LocalStore, key: str) -> str:
        """Flip, cut, replace or remove one object; its key, or nothing for what only a rebuild mends."""
        if key == MANIFEST_KEY:
            return ""
        path, kind = store.root / key, self.rng.choice(("flip", "flip", "flip", "cut", "remove", "zeros"))
        content = bytearray(path.read_bytes())
        if not content:
            return ""
        self.faults[f"object: {kind}"] += 1
        if kind == "remove":
            path.unlink()
        elif kind == "cut":
            os.truncate(path, self.rng.randrange(len(content)))
        elif kind == "zeros":
            if not any(content):
                return ""
            path.write_bytes(bytes(len(content)))
        else:
            place = self.rng.randrange(8 * len(content))
            content[place // 8] ^= 1 << place % 8
            path.write_bytes(content)
        return key

    def read_while_damaged(self, version: Version) -> None:
        """Every sample is right or an error."""
        with contextlib.suppress(*LOUD):
            dataset = open_dataset(self.dataset.root / version.name)
            for index, promised in enumerate(version.samples):
                try:
                    read = digest_of_sample(dataset[index])
                except LOUD:
                    self.outcomes["errors instead of damaged samples"] += 1
                else:
                    self.samples_read += 1
                    self.expect(read == promised, "SILENT: a wrong sample of a damaged version")

    def do_damage_the_manifest_and_rebuild(self) -> None:
        version = self.versions[self.rng.choice([state.version for state in published_versions(self.dataset)])]
        path = self.dataset.root / version.name / MANIFEST_KEY
        content = bytearray(path.read_bytes())
        place = self.rng.randrange(8 * len(content))
        content[place // 8] ^= 1 << place % 8
        path.write_bytes(content)
        self.faults["manifest: flip"] += 1
        try:
            open_dataset(path.parent)
        except LOUD:
            pass
        else:
            self.problems.append("SILENT: a damaged manifest was believed")
        self.expect(self.ended(self.start(self.room, version.config)) == 0, f"a rebuild failed: {self.told()}")

    def do_prune(self) -> None:
        keep = self.rng.choice((1, 2))
        try:
            done = prune(self.dataset, keep=keep, now_s=time.time())
        except DamagedObject:
            self.problems.append("prune found the latest damaged, and we had not done that")
            return
        held = {reader.version for reader in self.readers}
        self.expect(not held & set(done.removed), "a version was removed that a reader held open")
        self.outcomes["versions removed"] += len(done.removed)

    def do_pin_and_prune(self) -> None:
        version = self.rng.choice([state.version for state in published_versions(self.dataset)])
        pin(self.dataset, version, "soak")
        done = prune(self.dataset, keep=1, now_s=time.time())
        self.expect(version not in done.removed, "a pinned version was removed")
        unpin(self.dataset, version, "soak")

    def do_read_everything(self) -> None:
        for state in published_versions(self.dataset):
            read = samples_of(self.dataset.root / state.version)
            self.samples_read += len(read)
            self.expect(read == self.versions[state.version].samples, "SILENT: a wrong sample of a whole version")

    def do_ask_the_readers(self) -> None:
        for reader in self.readers:
            reader.pipe.send("read")
            read = reader.pipe.recv()
            self.samples_read += len(read)
            self.expect(
                read == self.versions[reader.version].samples, "SILENT: a reader that held a version read another"
            )

    def do_kill_a_reader(self) -> None:
        reader = self.readers.pop(self.rng.randrange(len(self.readers)))
        self.faults["kill of a reader"] += 1
        reader.process.kill()
        self.ended(reader.process)
        reader.pipe.close()
        self.readers.append(self.new_reader())

    def unfinish(self, version: Version) -> None:
        """Let there be something to build: the version goes, if it is published and nobody reads it; half the time."""
        folder = self.dataset.root / version.name
        if version.name in {reader.version for reader in self.readers} or self.rng.random() < 0.3:
            return
        if folder.exists() and latest_version(self.dataset) != version.name:
            shutil.rmtree(folder)

    # ---------------------------------------------------------------------------------------------------------------- looks

    def look_around(self, act: str, before: set[str]) -> None:
        """Published versions are whole, all others cannot be opened; then the log is forgotten."""
        now = {state.version for state in published_versions(self.dataset)}
        for name in now:
            if files_of(self.dataset.root / name) != self.versions[name].files:
                self.mend_or_complain(name, act)
        for name in self.versions.keys() - now:
            with contextlib.suppress(Unpublished):
                open_dataset(self.dataset.root / name)
                self.problems.append(f"after {act!r}: an unpublished version was opened")
        try:
            latest = latest_version(self.dataset)
            self.expect(latest in now, f"after {act!r}: the latest, {latest}, is not there")
        except LOUD as error:
            self.problems.append(f"after {act!r}: {error}")
        self.room.log.unlink(missing_ok=True)

    def mend_or_complain(self, name: str, act: str) -> None:
        """A published version with other bytes: right only where a fault of this act damaged it after it was verified."""
        struck = set(self.room.told("struck"))
        store = self.dataset.folder(name)
        found = verify(store)
        if not struck & {"flipped_bit", "cut_short", "lost_object", "swapped_shards"} or not found:
            self.problems.append(
                f"after {act!r}: version {name} is published and not whole: {found[:3]}, {self.told()}"
            )
        self.read_while_damaged(self.versions[name])
        child = self.context.Process(target=repair, args=(self.room, name))
        child.start()
        self.expect(self.ended(child) == 0, f"a repair failed: {self.told()}")
        self.expect(files_of(store.root) == self.versions[name].files, "a repair ended with other bytes")

    def expect(self, is_so: bool, problem: str) -> None:
        if not is_so:
            self.problems.append(problem)
            print(f"PROBLEM: {problem}", file=sys.stderr, flush=True)

    def told(self) -> str:
        return self.room.log.read_text(encoding="utf-8")[-800:] if self.room.log.exists() else "nothing was told"

    # ----------------------------------------------------------------------------------------------------------- what is left

    def descriptors(self) -> int:
        return len(os.listdir("/proc/self/fd"))

    def strangers(self) -> list[int]:
        """Processes of this soak that are nobody's: not this one, its readers, the fork server or the tracker."""
        known = {os.getpid(), _forkserver._forkserver_pid, _resource_tracker._pid}
        known |= {reader.process.pid for reader in self.readers}
        return [pid for pid in marked_processes(os.environ[MARK]) if pid not in known]

    def temporary_files(self) -> list[str]:
        """Half-written objects that the next builder has not removed, and anything in the folder of temporary files.

        A killed builder that had started a pool leaves the folder of Python's own socket: nobody lives to remove it.
        """
        half = [str(path) for path in self.room.out.rglob(".*") if path.name != ".lock"]
        temporary = [str(path) for path in Path(tempfile.gettempdir()).iterdir()]
        sockets = [path for path in temporary if Path(path).name.startswith("pymp-")]
        return half + [path for path in temporary if path not in sockets] + sockets[self.pools_killed :]


def marked_processes(mark: str) -> list[int]:
    """Every process that has the mark in its environment; the dead that wait to be counted have none."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def read_for_ever(pipe: Connection, folder: Path) -> None:
    """In a child: hold a version open, and read all of it as often as asked."""
    dataset = open_dataset(folder)
    pipe.send(len(dataset))
    while True:
        try:
            pipe.recv()
        except EOFError:
            return
        read = []
        for index in range(len(dataset)):
            try:
                read.append(digest_of_sample(dataset[index]))
            except LOUD as error:
                read.append(repr(error))
        pipe.send(read)


def main() -> int:
    """Run for so long and say what happened, in one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    multiprocessing.util.get_temp_dir()  # this process's socket lies outside, and is removed at its exit
    os.environ[MARK] = folder.name
    (folder / "tmp").mkdir()
    tempfile.tempdir = str(folder / "tmp")
    os.environ["TMPDIR"] = tempfile.tempdir
    room = Room(folder / "room")
    room.folder.mkdir()
    soak = Soak(room, random.Random(given.seed), forkserver())
    begin = time.monotonic()
    try:
        soak.set_up()
        soak.do_ask_the_readers()  # what loads or opens once has loaded and opened
        soak.do_read_everything()
        descriptors, spoken = soak.descriptors(), 0
        while time.monotonic() - begin < 60 * given.minutes:
            soak.act()
            if time.monotonic() - begin > 60 * (spoken + 1):
                spoken += 1
                print(f"{spoken} min: {sum(soak.counts.values())} acts, {len(soak.problems)} problems", flush=True)
        soak.do_build()  # a builder removes what the dead have left
        leaked_descriptors = soak.descriptors() - descriptors
        time.sleep(1.0)
        strangers, temporary = soak.strangers(), soak.temporary_files()
        for reader in soak.readers:
            reader.pipe.close()
            soak.ended(reader.process)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    silent = [problem for problem in soak.problems if problem.startswith("SILENT")]
    summary = {
        "minutes": round((time.monotonic() - begin) / 60, 1),
        "seed": given.seed,
        "operations": sum(soak.counts.values()),
        "faults injected": sum(soak.faults.values()),
        "samples compared": soak.samples_read,
        "silent errors": len(silent),
        "other problems": len(soak.problems) - len(silent),
        "leaked descriptors": leaked_descriptors,
        "leaked processes": len(strangers),
        "leaked temporary files": len(temporary),
    }
    print(json.dumps({"acts": soak.counts, "faults": soak.faults, "outcomes": soak.outcomes}, indent=1))
    for problem in [*dict.fromkeys(soak.problems), *map(str, strangers), *temporary][:20]:
        print(problem)
    print(", ".join(f"{name} {value}" for name, value in summary.items()))
    return int(bool(soak.problems or leaked_descriptors > 0 or strangers or temporary))


if __name__ == "__main__":
    sys.exit(main())
