"""What is stored of a picture: the crop that its labels name, at the quality that its schema names."""

import cv2
import numpy as np
import pytest

from flows.local import build_here
from geometry.frames import Similarity2D
from geometry.landmarks import LEFT_EYE, RIGHT_EYE
from render.augmentation_config import AugmentationConfig
from render.augmentation_presets import as_mixture
from render.crop import warp_image
from storage.byte_codes import Jpeg, unpacked
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


@pytest.mark.parametrize("quality", [40, 75, 98])
def test_a_picture_is_stored_at_the_quality_that_its_schema_names(quality):
    """A smooth picture hardly shows it, so the file itself is compared."""
    picture = np.random.default_rng(4).integers(0, 256, (3, 32, 32), dtype=np.uint8)
    stored = Jpeg(quality=quality, size_hw=(32, 32)).encode(picture)
    written = cv2.imencode(".jpg", np.moveaxis(picture, 0, -1)[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    assert bytes(unpacked(stored)) == written.tobytes()


def test_a_mirrored_copy_has_its_landmarks_under_their_new_names_and_its_map_agrees(source, tmp_path):
    """In a mirrored picture the subject's right eye is on the left again: it is the other eye that lies there."""
    config = SMALL.model_copy(update={"copies": 2, "augment": as_mixture(AugmentationConfig(flip=1.0))})
    dataset = open_dataset(build_here(config, source=source, out=tmp_path, workers=1).path)
    x, y = dataset.table("landmark_texels").T
    mirrored = [sample for sample in (dataset[index] for index in range(len(dataset))) if sample["mirrored"]]
    assert len(mirrored) == len(dataset) // 2
    for sample in mirrored:
        landmarks = sample["landmarks_px"]
        assert landmarks[RIGHT_EYE, 0].mean() < landmarks[LEFT_EYE, 0].mean()
        assert np.median(np.linalg.norm(sample["position_map"][y, x] - landmarks, axis=1)) < 1.5
