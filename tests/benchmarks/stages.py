"""Where a sample's time goes: the shards of a build under Python's profiler, by stage.

    python tests/benchmarks/stages.py SAMPLE_FOLDER

The profiler's own cost is in the figures, mostly in "everything else": read them as shares.
"""

import cProfile
import pstats
import sys
import tempfile

from flows import build, presets

STAGES = {  # function: (file, what it is)
    "decode_rgba": ("images.py", "JPEG decoding"),
    "warp_image": ("crop.py", "warp to the crop"),
    "placed_faces": ("placed_faces.py", "vertices, landmarks, poses (together)"),
    "apply": ("atlas_raster.py", "atlas to position map"),
    "read": ("atlas_raster.py", "landmarks read back"),
    "with_depth_offset": ("position_map.py", "depth offset"),
    "results": ("mat_reader.py", "waiting for the annotation child"),
    "annotations_from_variables": ("annotations.py", "annotations checked and converted"),
    "read_planned": ("build.py", "reading and hashing the source files"),
    "add": ("shards.py", "checking, encoding, compressing, checksums"),
    "_store_arrays": ("shards.py", "hashing and storing shards (fsync)"),
}


def main() -> None:
    for maps in ("parametric", "materialized"):
        with tempfile.TemporaryDirectory() as out:
            profile = cProfile.Profile()
            config = presets.posmaps_300wlp(maps=maps)
            with build.opened_build(config, source=sys.argv[1], model="built-in", out=out) as opened:
                build.build_shard(opened.job, opened.missing_shards[0])  # loads, compiles
                profile.enable()
                outcomes = [build.build_shard(opened.job, shard) for shard in opened.missing_shards[1:]]
                profile.disable()
            report(maps, pstats.Stats(profile), sum(outcome.n_samples for outcome in outcomes))


def report(maps: str, stats: pstats.Stats, n_samples: int) -> None:
    total = stats.total_tt
    found = {}
    for (path, _, name), (*_, cumulative, _) in stats.stats.items():
        if name in STAGES and path.endswith(STAGES[name][0]):
            found[STAGES[name][1]] = cumulative
    found["everything else"] = total - sum(found.values())
    print(f"{maps}: {n_samples} samples, {1000 * total / n_samples:.2f} ms each")
    for what, seconds in sorted(found.items(), key=lambda row: -row[1]):
        print(f"  {what:46}{1000 * seconds / n_samples:6.2f} ms {100 * seconds / total:5.0f} %")


if __name__ == "__main__":
    main()
