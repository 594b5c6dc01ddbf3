"""Face profiling: likeness to a direct render per angle, and speed.  python tests/benchmarks/profiling.py [people]"""

import importlib.util
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from flows.face_profiles import ProfilesRecipe
from geometry.built_in import load_built_in
from render.profiling import MeshedPicture, turned_camera
from storage.jpeg import decode_jpeg, encode_jpeg
from storage.synthetic import Family, draw_face

ANGLES = (0, 15, 30, 45, 60, 75, 90)


def heads():
    path = Path(__file__).parent.parent / "render" / "profiled_heads.py"
    spec = importlib.util.spec_from_file_location("profiled_heads", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["profiled_heads"] = module
    spec.loader.exec_module(module)
    return module


def likeness(people: int) -> None:
    rows: dict[str, dict[int, list[float]]] = {}
    for person in range(people):
        face = draw_face(Family(3, person, 0, 1))
        for name, start, turns in (
            ("from the front", 0.0, [(np.radians(a), None) for a in ANGLES]),
            ("outward from 15°", 15.0, [(np.radians(15 + a), None) for a in ANGLES if 15 + a <= 90]),
            ("inward from 40°", 40.0, [(np.radians(40 - a), None) for a in ANGLES]),
            ("pitch up from the front", 0.0, [(0.0, np.radians(5 + a)) for a in ANGLES[:4]]),
            ("pitch down from the front", 0.0, [(0.0, np.radians(5 - a)) for a in ANGLES[:4]]),
        ):
            head = heads().RenderedHead.of(
                face.coefficients, face.mesh.texture, yaw=np.radians(start), pitch=np.radians(5), seed=person
            )
            meshed = head.meshed()
            for angle, (yaw, pitch) in zip(ANGLES, turns, strict=False):
                view = meshed.turned(yaw=yaw, pitch=pitch)
                rows.setdefault(name, {}).setdefault(angle, []).append(head.ssim(view.camera, view.image))
    print(f"mean (lowest) SSIM over the visible face, {people} people")
    print("| turned by | " + " | ".join(f"{angle}°" for angle in ANGLES) + " |")
    for name, by_angle in rows.items():
        cells = [f"{np.mean(by_angle[a]):.3f} ({np.min(by_angle[a]):.3f})" if a in by_angle else "" for a in ANGLES]
        print(f"| {name} | " + " | ".join(cells) + " |")


def a_head():
    """One that is rendered from almost in front."""
    face = draw_face(Family(3, 0, 0, 1))
    return heads().RenderedHead.of(face.coefficients, face.mesh.texture, yaw=0.1, pitch=0.1, seed=0)


def speed() -> None:
    cv2.setNumThreads(1)
    recipe = ProfilesRecipe(load_built_in())
    head = a_head()
    jpeg = encode_jpeg(head.drawn(head.camera))
    yaws = np.radians(np.arange(15, 91, 5))
    seconds = {"decode": 0.0, "mesh": 0.0, "turn": 0.0, "landmarks": 0.0, "encode": 0.0}

    def timed(what, work, *arguments, **named):
        start = time.perf_counter()
        result = work(*arguments, **named)
        seconds[what] += time.perf_counter() - start
        return result

    for repeat in range(6):
        if repeat == 1:  # the first warms up
            seconds = dict.fromkeys(seconds, 0.0)
        picture = timed("decode", decode_jpeg, jpeg)
        meshed = timed("mesh", MeshedPicture.of, np.ascontiguousarray(picture), head.model, head.vertices, head.camera)
        cameras = [turned_camera(head.camera, yaw=float(yaw), pivot=meshed.pivot) for yaw in yaws]
        for view in timed("turn", meshed.seen_by, cameras):
            timed("landmarks", recipe.marched, head.vertices, head.coefficients, view.camera)
            timed("encode", encode_jpeg, view.image)
    views = 5 * len(yaws)
    print(f"one core, 450 × 450, {len(yaws)} views of a photograph")
    for what, total in seconds.items():
        print(f"  {what:10s} {1000 * total / views:6.2f} ms a view")
    print(f"  pictures a second: {views / sum(seconds.values()):.1f}")


if __name__ == "__main__":
    likeness(int(sys.argv[1]) if len(sys.argv) > 1 else 6)
    speed()
