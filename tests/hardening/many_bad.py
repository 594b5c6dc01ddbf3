"""Forty bad samples of `bad_inputs` at once, beside a thousand good ones: ``python -m tests.hardening.many_bad``.

The good samples are built twice, without the bad ones and with them; each must be the same, and the manifest must list
every bad one with its code.
"""

import argparse
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

from flows.config import PosmapConfig
from flows.local import build_here
from render.crop import CropConfig
from storage.dataset import ShardedDataset, open_dataset
from storage.synthetic import write_sample_folder
from tests.hardening.bad_inputs import table  # noqa: F401 - whose modules fill QUARANTINED
from tests.hardening.bad_inputs.folders import put_what_is_no_file
from tests.hardening.bad_inputs.lab import Lab, make_good
from tests.hardening.bad_inputs.rows import QUARANTINED
from tests.hardening.builders import digest_of_sample

CONFIG = PosmapConfig(crop=CropConfig(size_px=128))
MAX_BAD = 0.1


def put_good(folder: Path, copies: int) -> None:
    """A drawn sample of 128 pictures, so often, under photographs' numbers of their own."""
    write_sample_folder(folder / "drawn", n_identities=8, n_expressions=1, n_views=8)
    for path in sorted((folder / "drawn").rglob("*_*_*.*")):
        for copy in range(copies):
            name = re.sub(r"\d{3,}", lambda found, copy=copy: str(int(found[0]) + 10_000 * copy), path.name, count=1)
            place = folder / "source" / path.parent.name / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)


def put_bad(folder: Path) -> dict[str, str]:
    """Every bad sample, under a stem that tells its row; their codes by id."""
    whole = Lab(folder, make_good(folder / "good"))
    expected = put_what_is_no_file(whole)
    for number, (make, codes) in QUARANTINED.items():
        lab = Lab(folder / f"row {number}", whole.good)
        lab.afw.mkdir(parents=True)
        make(lab)
        for path in lab.afw.iterdir():
            path.rename(whole.afw / path.name.replace("AFW_70000", f"AFW_8{number:02d}00", 1))
        for name, code in codes.items():
            expected[name.replace("AFW_70000", f"AFW_8{number:02d}00", 1)] = code
    return expected


def digests(dataset: ShardedDataset) -> dict[str, str]:
    """A digest of each sample by its id."""
    samples = (dataset[index] for index in range(len(dataset)))
    return {str(sample["source_id"]): digest_of_sample(sample) for sample in samples}


def main() -> int:
    """Build without and with the bad ones, compare, and say in one line what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, default=8, help="of 128 good pictures")
    parser.add_argument("--workers", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="many-bad-") as name:
        folder, start = Path(name), time.monotonic()
        put_good(folder, given.copies)
        source = folder / "source"
        build_here(CONFIG, source=source, out=folder / "without", workers=given.workers)
        alone = digests(open_dataset(folder / "without" / CONFIG.name))
        expected = put_bad(folder)
        build_here(CONFIG, source=source, out=folder / "with", workers=given.workers, max_bad=MAX_BAD)
        dataset = open_dataset(folder / "with" / CONFIG.name)
        beside = digests(dataset)
        rejected = {hole.source_id: hole.code for hole in dataset.manifest.rejected}
        different = [name for name, digest in alone.items() if beside.get(name) != digest]
        extra = beside.keys() - alone.keys()
        wrong = {name for name in expected.keys() | rejected.keys() if expected.get(name) != rejected.get(name)}
        print(
            f"good {len(alone)}, different or missing {len(different)}, bad {len(expected)}, "
            f"listed {len(rejected)} with {len(set(rejected.values()))} codes, listed wrongly or not {len(wrong)}, "
            f"read though bad {len(extra)}, seconds {time.monotonic() - start:.0f}"
        )
        for line in [*different[:5], *sorted(wrong)[:5], *sorted(extra)[:5]]:
            print(f"  {line}: {expected.get(line)}, {rejected.get(line)}", file=sys.stderr)
    return 1 if different or wrong or extra else 0


if __name__ == "__main__":
    sys.exit(main())
