"""YAML of deployments, and published data sets whose objects were changed."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from flows.config import PosmapConfig
from flows.local import build_here
from render.crop import CropConfig
from storage.dataset import open_dataset
from storage.store import DamagedObject, MissingObject
from tests.hardening.bad_inputs.lab import Lab
from tests.hardening.bad_inputs.rows import other


@other(
    39, "YAML of deployments with a Python tag, aliases without end, a doubled key, `1e-3`, `no`",
    "refused; numbers and words are read as they are written", "1; 0.001, “no”",
)  # fmt: skip
def _(lab: Lab) -> None:
    from flows.deploy import AUTOMATIONS_FILE, PREFECT_FILE
    from flows.plain_yaml import read_document

    infra = lab.folder / "infra"
    infra.mkdir()
    (infra / AUTOMATIONS_FILE).write_text("automations: []\n")
    mark = lab.folder / "ran"
    laughs = "a: &a [x, x, x]\n" + "".join(
        f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    bad = {
        f"x: !!python/object/apply:os.system ['touch {mark}']\n": "python/object",
        laughs: "alias",
        "deployments: []\nname: a\nname: b\n": "there twice",
        "[" * 5000 + "]" * 5000: "not YAML",
        "deployments: \xff\n": "",
    }
    for text, words in bad.items():
        (infra / PREFECT_FILE).write_bytes(text.encode("latin-1"))
        lab.run("deploy", "--infra", infra).complains(1, re.escape(PREFECT_FILE), words)
    assert not mark.exists()
    (infra / PREFECT_FILE).write_text("rate: 1e-3\nsplit: no\nversion: 010\ntime: 12:30:45\nyes: true\n")
    assert read_document(infra / PREFECT_FILE) == {
        "rate": 0.001,
        "split": "no",
        "version": 10,
        "time": "12:30:45",
        "yes": True,
    }


@other(
    40, "a data set with two shards swapped, one missing, a shape of 2⁴⁰, a pickling filter in its metadata",
    "`verify` names each object; reading gives the right sample or an error", "1, each named; errors on reading",
)  # fmt: skip
def _(lab: Lab) -> None:
    def damaged(name: str, damage: Callable[[Path], None], *keys: str) -> None:
        config = PosmapConfig(crop=CropConfig(size_px=128), shard_size=1)
        version = Path(build_here(config, source=lab.source, out=lab.folder / name, workers=1).path)
        damage(version)
        ended = lab.run("verify", version)
        assert ended.code == 1, ended.out + ended.err
        for key in keys:
            assert key in ended.out + ended.err, (key, ended.out, ended.err)
        for index in range(2):
            try:
                found = open_dataset(version)[index]
            except (DamagedObject, MissingObject):
                continue
            expected = lab.good.expected[str(found["source_id"])]
            for target, value in expected.items():
                np.testing.assert_array_equal(np.asarray(found[target]).astype(value.dtype), value, err_msg=target)

    def swap(version: Path) -> None:
        first, second = (version / "image" / f"c.{shard}.0.0.0" for shard in (0, 1))
        first.rename(version / "kept")
        second.rename(first)
        (version / "kept").rename(second)

    def edit(change: Callable[[dict], None]) -> Callable[[Path], None]:
        def damage(version: Path) -> None:
            path = version / "image" / "zarr.json"
            content = json.loads(path.read_text())
            change(content)
            path.write_text(json.dumps(content))

        return damage

    damaged("swapped", swap, "image/c.0.0.0.0", "image/c.1.0.0.0")
    damaged("missing", lambda version: (version / "position_map" / "c.1.0.0.0").unlink(), "position_map/c.1.0.0.0")
    damaged("huge", edit(lambda content: content["shape"].__setitem__(0, 1 << 40)), "image/zarr.json")
    damaged("filter", edit(lambda content: content.update(codecs=[{"name": "numcodecs.pickle"}])), "image/zarr.json")
