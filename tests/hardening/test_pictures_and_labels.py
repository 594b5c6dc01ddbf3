"""A jittered copy's picture lies where its labels say: the stored crop carries the photograph to the stored picture."""

import numpy as np
import pytest

from flows.local import build_here
from geometry.frames import Similarity2D
from render.crop import warp_image
from storage.dataset import open_dataset
from storage.images import decode_image
from storage.synthetic import write_sample_folder
from tests.hardening.builders import SMALL


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source") / "sample"
    write_sample_folder(folder, n_identities=1, n_expressions=1, n_views=1)
    return folder


def test_the_stored_crop_makes_the_stored_picture_of_every_copy(source, tmp_path):
    config = SMALL.model_copy(update={"copies": 3})
    dataset = open_dataset(build_here(config, source=source, out=tmp_path, workers=1).path)
    crops = []
    for sample in (dataset[index] for index in range(len(dataset))):
        photograph = decode_image((source / f"{sample['source_id']}.jpg").read_bytes(), expected_hw=(450, 450))
        again = warp_image(photograph, Similarity2D(sample["crop_from_image"]), size_px=64)
        np.testing.assert_array_equal(sample["image"], again)
        crops.append(sample["crop_from_image"])
    assert len(np.unique(np.round(crops, 6), axis=0)) == len(crops), "copies that are not jittered prove nothing"
