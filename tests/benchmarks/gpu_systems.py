"""Everything that takes a GPU to be known of the five systems, into one JSON. Not collected by pytest.

    python tests/benchmarks/gpu_systems.py FOLDER [--n-people 2500] [--minutes 20] [--photographs AFLW2000]

Stages, each written to FOLDER/gpu_systems.json as soon as it is done, and left out when it is there already: a call that
was cut off is simply made again, the training goes on where it stopped.

    data      people rendered and built as a data set of 256 px: parameters of maps, fields, parts
    laws      the tests that are marked `gpu` (z-buffer's twin, device targets)
    systems   forward, backward and step of every phase of every preset in bf16, at the preset's batch: samples a second, memory
    compile   the same compiled, seconds of compiling beside it
    reading   samples a second of the loader with its workers, augmentation and decoding on the device
    decode    parametric maps and fields made on the device, a second
    training  `prnet` for so many minutes on the people, with its curve
    measured  its best checkpoint on people held out, and on AFLW2000-3D's folder where one is given, beside the mean shape

Runs on whatever device there is; ``--tiny`` takes the tiny presets and little of everything, to prove the command on a CPU:

    python tests/benchmarks/gpu_systems.py FOLDER --tiny --minutes 0.5
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from flows import training
from flows.evaluations import evaluate_here
from flows.local import build_here
from flows.presets import posmaps_300wlp
from flows.training_progress import progress_line
from flows.training_settings import configs
from render.people_config import PRESETS
from storage.dataset import open_dataset
from storage.people import PeoplePlan
from storage.people_folder import write_people_folder
from storage.processes import usable_cores
from storage.whole_files import write_atomically
from train.device_targets import DeviceTargets
from train.loader import make_loader
from train.loop import compile_network
from train.run_log import read_log
from train.system import PhaseConfig, System
from train.systems import SYSTEMS, system_class

STAGES = ("data", "laws", "systems", "compile", "reading", "decode", "training", "measured")
DENSEREG_PX = 321
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--n-people", type=int, default=2500)
    arguments.add_argument("--minutes", type=float, default=20.0, help="of training, over all calls")
    arguments.add_argument("--photographs", type=Path, help="AFLW2000-3D's folder, or some of its pairs")
    arguments.add_argument("--workers", type=int, default=min(usable_cores(), 16))
    arguments.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    arguments.add_argument("--again", action="store_true", help="Do stages that are there already.")
    arguments.add_argument("--tiny", action="store_true", help="The tiny presets, few people: proves the command.")
    given = arguments.parse_args()
    Stages(given).run()


class Stages:
    """What is asked for, and what is known so far."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given, self.folder = given, given.folder.absolute()
        self.tiny: bool = given.tiny
        self.preset: training.PresetName = "tiny" if given.tiny else "paper"
        self.size_px = 128 if given.tiny else 256
        self.workers: int = 0 if given.tiny else given.workers
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / "gpu_systems.json"
        self.results: dict[str, Any] = json.loads(self.path.read_text()) if self.path.is_file() else {}

    def run(self) -> None:
        self.results["machine"] = machine()
        for stage in self.given.stages:
            if stage in self.results and not self.given.again and not self.results[stage].get("unfinished"):
                continue
            start = time.perf_counter()
            print(f"{stage} …", flush=True)
            found = getattr(self, stage)()
            self.results[stage] = found | {"seconds": round(time.perf_counter() - start, 1)}
            write_atomically(self.path, (json.dumps(self.results, indent=1) + "\n").encode())
            print(json.dumps(self.results[stage])[:2000], flush=True)

    # ---------------------------------------------------------------------------------------------------- stages

    def data(self) -> dict[str, Any]:
        n_people = 12 if self.tiny else self.given.n_people
        plan = PeoplePlan(
            PRESETS["people-large-pose"](), 0, n_people, 2, 2 if self.tiny else 4, 0.2 if self.tiny else 0.02
        )
        start = time.perf_counter()
        write_people_folder(self.folder / "people", plan, workers=usable_cores(), progress=lambda done, total: None)
        drawn = time.perf_counter() - start
        config = posmaps_300wlp(
            size_px=self.size_px, maps="parametric", images="jpeg:95", targets=["posmap", "field", "parts"]
        )
        for part in ("train", "validation"):
            source = self.folder / "people" / part
            build_here(config, source=source, out=self.folder / part, workers=usable_cores())
        dataset = self.opened()
        rates = {"pictures": plan.pictures, "pictures_drawn_a_second": round(plan.pictures / max(drawn, 1e-9), 1)}
        return {"samples": len(dataset), "fingerprint": dataset.manifest.fingerprint, **rates}

    def laws(self) -> dict[str, Any]:
        here = Path(__file__).parents[1]
        files = [here / "train" / f"test_{name}.py" for name in ("zbuffer", "device_targets")]
        if DEVICE.type != "cuda":
            return {"ran": False, "because": "there is no GPU"}
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", *map(str, files)],
            cwd=here.parent, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return {"ran": True, "passed": done.returncode == 0, "end": done.stdout[-1500:]}

    def systems(self) -> dict[str, Any]:
        return self._each_phase(compiled=False)

    def compile(self) -> dict[str, Any]:
        return self._each_phase(compiled=True)

    def _each_phase(self, *, compiled: bool) -> dict[str, Any]:
        """Steps of every phase of every system on one batch, so that nothing is waited for."""
        found: dict[str, Any] = {}
        for name in ("dan",) if compiled and self.tiny else SYSTEMS:  # a CPU's compiler takes minutes for each
            settings = [f"resolution={DENSEREG_PX}"] if name == "densereg" and not self.tiny else []
            config, _ = configs(name, self.preset, settings=settings)  # type: ignore[arg-type]
            system: System = system_class(name).for_dataset(config, self.opened())
            system.network.to(DEVICE)
            n = sum(parameter.numel() for parameter in system.network.parameters())
            found[name] = {"parameters": n, "phases": {}}
            if compiled:
                compile_network(system.network)
            for phase in config.phases:
                batch_size = phase.batch_size or config.batch_size
                found[name]["phases"][phase.name] = measured_steps(system, phase, self._batch(system, batch_size))
                print(name, phase.name, found[name]["phases"][phase.name], flush=True)
        return found

    def _batch(self, system: System, batch_size: int) -> dict[str, Any]:
        """A batch of the system's targets; few people are taken again until there are enough."""
        loader = make_loader(
            self.opened(), batch_size=min(batch_size, len(self.opened())), targets=system.targets, device=DEVICE,
            decode_on="device",
        )  # fmt: skip
        batch = next(iter(loader))
        times = -(-batch_size // len(batch["image"]))
        return {name: torch.cat([value] * times)[:batch_size] for name, value in batch.items()}

    def reading(self) -> dict[str, Any]:
        """Each system's targets with its paper's augmentation, beside what its network takes."""
        found: dict[str, Any] = {"workers": self.workers}
        for name in SYSTEMS:
            config, _ = configs(name, self.preset)  # type: ignore[arg-type]
            system = system_class(name).for_dataset(config, self.opened())
            loader = make_loader(
                self.opened(), batch_size=min(config.batch_size, len(self.opened())), workers=self.workers,
                targets=system.targets, device=DEVICE, augment=system.augmentation, augment_on="device",
                decode_on="device",
            )  # fmt: skip
            rate = samples_a_second(loader, seconds=5 if self.tiny else 20)
            slowest = min(p["samples_a_second"] for p in self.results["systems"][name]["phases"].values())
            fastest = max(p["samples_a_second"] for p in self.results["systems"][name]["phases"].values())
            found[name] = {
                "samples_a_second": round(rate, 1),
                "over_the_slowest_phase": round(rate / slowest, 2),
                "over_the_fastest_phase": round(rate / fastest, 2),
            }
            print(name, found[name], flush=True)
        return found

    def decode(self) -> dict[str, Any]:
        """Maps and fields made of parameters that lie on the device already."""
        found: dict[str, Any] = {}
        dataset = self.opened()
        for what, targets in (("maps", ("position_map",)), ("fields", ("uv", "label", "depth", "part"))):
            made = DeviceTargets(dataset, targets, DEVICE)
            n = min(len(dataset), 16 if self.tiny else (128 if what == "maps" else 32))
            read = {name: torch.from_numpy(values) for name, values in dataset.read(range(n), made.read).items()}
            moved = {name: values.to(DEVICE) for name, values in read.items()}
            seconds = timed(lambda made=made, read=read, moved=moved: made(read, dict(moved)), at_least=2.0)
            found[f"{what}_a_second"] = round(n / seconds, 1)
            found[f"{what}_batch"] = n
        model = dataset.model()
        found["coefficients"] = model.n_identity + model.n_expression
        texels = int((dataset.table("atlas_covered") > 0).sum())
        found["texels"] = texels
        found["map_gflop"] = round(2 * 3 * texels * (found["coefficients"] + 4) / 1e9, 4)
        return found

    def training(self) -> dict[str, Any]:
        """PRNet for so long; over several calls, where one was cut off."""
        before = self.results.get("training", {}).get("minutes", 0.0)
        end = time.monotonic() + 60 * max(self.given.minutes - before, 0.0)
        start = time.monotonic()
        settings = ["validate_every=500", "save_every=500", f"workers={self.workers}"]
        steps = 30
        if not self.tiny:
            rates = self.results["systems"]["prnet"]["phases"]["train"]["samples_a_second"]
            read = self.results["reading"]["prnet"]["samples_a_second"]
            steps = int(0.8 * 60 * self.given.minutes * min(rates, read) / 16)
            settings += ['precision="bf16"', "phases.train.optimiser.learning_rate=2e-4"]
            settings += ['phases.train.optimiser.decay="polynomial"', "phases.train.optimiser.decay_factor=1"]
        steps = self.results.get("training", {}).get("steps_planned", steps)
        done = training.train_here(
            "prnet",
            self.folder / "train" / "300wlp-posmaps",
            validation=self.folder / "validation" / "300wlp-posmaps",
            preset=self.preset,
            out=self.folder / "trained",
            settings=settings,
            steps=steps,
            stop=lambda: time.monotonic() > end,
            report=lambda progress: print(progress_line(progress), flush=True),
        )
        lines = read_log(done.folder)
        curve = [(line["total_steps"], line["validation"]) for line in lines if line["validation"] is not None]
        minutes = before + (time.monotonic() - start) / 60
        return {
            "checkpoint": str(done.checkpoint.relative_to(self.folder)),
            "curves": str((done.folder / "curves.png").relative_to(self.folder)),
            "minutes": round(minutes, 2),
            "steps": done.steps,
            "steps_planned": steps,
            "unfinished": not done.finished and minutes < self.given.minutes,
            "samples_a_second": lines[-1]["samples_per_second"] if lines else None,
            "waiting_share": lines[-1]["waiting_share"] if lines else None,
            "validation": curve,
        }

    def measured(self) -> dict[str, Any]:
        checkpoint = self.folder / self.results["training"]["checkpoint"]
        tests = {"people": self.folder / "validation" / "300wlp-posmaps"}
        if self.given.photographs is not None:
            tests["photographs"] = self.given.photographs
        found = {}
        for name, data in tests.items():
            done = evaluate_here(checkpoint, data, out=self.folder / "measured" / name)
            found[name] = {
                "n_images": done.document["n_images"],
                "latency_ms": done.document["checkpoint"]["latency_ms"],
            }
            found[name] |= {
                measure: {method: row["mean_percent"] for method, row in rows.items() if "mean_percent" in row}
                for measure, rows in done.document["results"].items()
            }
        return found

    def opened(self) -> Any:
        return open_dataset(self.folder / "train" / "300wlp-posmaps")


# ------------------------------------------------------------------------------------------------------- measuring


def measured_steps(system: System, phase: PhaseConfig, batch: dict[str, Any]) -> dict[str, float | int]:
    """Forward, backward and step in bf16, as the training does them."""
    for parameter in system.network.parameters():
        parameter.requires_grad_(False)
    learnt = list(system.learns(phase))
    for parameter in learnt:
        parameter.requires_grad_(True)
    optimiser = phase.optimiser.build(learnt)
    rng = torch.Generator().manual_seed(0)
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()

    def step() -> None:
        system.begin(phase)
        prepared = system.prepare(batch, rng=rng)
        with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
            loss = system.losses(prepared, phase)["loss"]
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()

    start = time.perf_counter()
    step()
    synchronised()
    first = time.perf_counter() - start
    seconds = timed(step, at_least=1.0 if DEVICE.type == "cpu" else 5.0)
    n = len(batch["image"])
    memory = torch.cuda.max_memory_allocated() / 1e9 if DEVICE.type == "cuda" else 0.0
    optimiser.zero_grad(set_to_none=True)
    return {
        "batch": n,
        "samples_a_second": round(n / seconds, 2),
        "first_step_s": round(first, 2),
        "memory_gb": round(memory, 2),
    }


def timed(work: Callable[[], object], *, at_least: float) -> float:
    """Seconds of one call, the mean over so many seconds, after one that is not counted."""
    work()
    synchronised()
    start, n = time.perf_counter(), 0
    while time.perf_counter() - start < at_least:
        work()
        n += 1
        if n % 4 == 0:
            synchronised()
    synchronised()
    return (time.perf_counter() - start) / n


def samples_a_second(loader: Any, *, seconds: float) -> float:
    """Of the loader alone, over some epochs; what its workers take to start is not counted."""
    n, start = 0, 0.0
    while True:
        for batch in loader:
            if not start:
                synchronised()
                start = time.perf_counter()
                continue
            n += len(batch["image"])
            if time.perf_counter() - start > seconds:
                synchronised()
                return n / (time.perf_counter() - start)


def synchronised() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def machine() -> dict[str, Any]:
    """What it was measured on."""
    name = torch.cuda.get_device_name() if DEVICE.type == "cuda" else platform.processor() or platform.machine()
    return {"device": name, "cores": os.cpu_count(), "torch": torch.__version__, "python": platform.python_version()}


if __name__ == "__main__":
    main()
