"""How long a rendered person's picture takes on one core, stage by stage, with colours drawn once a person.

    python tests/benchmarks/people_speed.py [--people 6] [--views 4] [--side 256] [--rounds 5]

Time is the thread's own processor time, so that other work on the machine counts little; numba's code is compiled and
tables are decoded before. Geometry (shape, expression, normals, hair, glasses) is made once for a family and is charged to
its pictures; a person's colours and parameters are told apart. The rate counts geometry, shirt, z-buffer, light,
background and sensor.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import cv2
from threadpoolctl import threadpool_limits

import render.dressed_head as dressed_head
import storage.people as people
from render.people_config import PRESETS
from storage.jpeg import encode_jpeg

BULK = [name for name, preset in PRESETS.items() if preset().shading == "bulk"]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--people", type=int, default=6)
    arguments.add_argument("--views", type=int, default=4)
    arguments.add_argument("--side", type=int, default=256)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--presets", nargs="+", default=BULK, choices=list(PRESETS))
    given = arguments.parse_args()
    cv2.setNumThreads(1)
    with threadpool_limits(1):
        for preset in given.presets:
            measure(preset, given.people, given.views, given.side, given.rounds)


def measure(preset: str, n_people: int, n_views: int, side: int, rounds: int) -> None:
    config = PRESETS[preset]().model_copy(update={"side_px": side})
    plan = people.PeoplePlan(config, 0, n_people + 1, 1, n_views, 0.1)
    draw_all(plan, n_people, {})  # compiles, decodes
    pictures = n_people * n_views
    every = [one_round(plan, n_people) for _ in range(rounds)]
    each = [(sum(taken["family"]) + sum(taken["picture"])) / pictures for taken in every]
    best, middle = min(each), statistics.median(each)
    taken = every[each.index(best)]
    print(
        f"{preset}: {1000 * best:.1f} ms a picture of {side}² in the best round ({1 / best:.0f} a second), "
        f"{1000 * middle:.1f} ms in the middle one ({1 / middle:.0f}); {n_views} views a family"
    )
    print(f"  colours and parameters of a person {1000 * statistics.median(taken['person']):.0f} ms")
    for stage in ("family", "picture", "shirt_surface", "fine_buffers", "light_layer", "draw_scene", "develop", "jpeg"):
        print(f"  {stage:14}{1000 * sum(taken.get(stage, ())) / pictures:7.2f} ms a picture")


def one_round(plan: people.PeoplePlan, n_people: int) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {}
    with (
        timed(dressed_head, "shirt_surface", taken),
        timed(dressed_head, "fine_buffers", taken),
        timed(dressed_head, "light_layer", taken),
        timed(people, "draw_scene", taken),
        timed(people.Sensor, "develop", taken),
    ):
        draw_all(plan, n_people, taken)
    return taken


def draw_all(plan: people.PeoplePlan, n_people: int, taken: dict[str, list[float]]) -> None:
    for person in range(n_people):
        people.draw_person.cache_clear()
        with clock("person", taken):
            people.draw_person(plan, person)
        with clock("family", taken):
            family = people.draw_family(plan, person, 0)
        for view in range(plan.n_views):
            with clock("picture", taken):
                shot = people.draw_shot(plan, family, view)
                picture = people.draw_picture(plan, family, view, shot)
            with clock("jpeg", taken):
                encode_jpeg(picture, shot.quality)


@contextmanager
def clock(name: str, taken: dict[str, list[float]]) -> Iterator[None]:
    start = time.thread_time()
    yield
    taken.setdefault(name, []).append(time.thread_time() - start)


@contextmanager
def timed(owner: object, name: str, taken: dict[str, list[float]]) -> Iterator[None]:
    function: Callable[..., object] = getattr(owner, name)

    def with_clock(*args: object, **named: object) -> object:
        with clock(name, taken):
            return function(*args, **named)

    setattr(owner, name, with_clock)
    try:
        yield
    finally:
        setattr(owner, name, function)


if __name__ == "__main__":
    main()
