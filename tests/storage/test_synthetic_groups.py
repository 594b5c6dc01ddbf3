"""Invented groups: the same from the same seed, and their files tell of the pictures."""

import json
from pathlib import Path

import numpy as np
import pytest

from storage.images import decode_image, stored_size
from storage.sources import open_source
from storage.synthetic_groups import SIZES_HW, invent_people, write_group_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("groups") / "a"
    write_group_folder(path, n_photographs=3)
    return path


def test_a_seed_gives_the_same_bytes_and_another_seed_others(folder, tmp_path):
    write_group_folder(tmp_path / "again", n_photographs=3)
    names = sorted(path.name for path in folder.iterdir())
    assert [(tmp_path / "again" / name).read_bytes() for name in names] == [(folder / n).read_bytes() for n in names]
    other = invent_people(1, 0, SIZES_HW[0])[0]
    assert (other.camera.rotation != invent_people(0, 0, SIZES_HW[0])[0].camera.rotation).any()


def test_a_finished_folder_is_left_as_it_is_and_another_sample_is_refused(folder):
    stamps = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    write_group_folder(folder, n_photographs=3)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == stamps
    with pytest.raises(ValueError, match="describes another sample"):
        write_group_folder(folder, n_photographs=4)


def test_every_photograph_has_an_annotation_for_each_person_but_strangers_and_a_box_for_all(folder):
    source = open_source(folder, several_faces=True)
    assert source.rejected == ()
    for index, item in enumerate(source.items):
        people = invent_people(0, index, SIZES_HW[index])
        annotations = [path for path in item.paths if path.suffix == ".mat"]
        assert len(annotations) == sum(person.annotated for person in people)
        boxes = np.array(json.loads(item.paths[-1].read_text())["boxes"])
        assert len(boxes) == len(people)
        for person, box in zip(people, boxes, strict=True):
            nose = person.camera.project(person.face.landmarks[30:31])[0, :2]
            assert (box[:2] < nose).all()
            assert (nose < box[2:]).all()
    assert any(not person.annotated for person in invent_people(0, 2, SIZES_HW[2]))


def test_photographs_have_the_sizes_that_they_say(folder):
    for index in range(3):
        content = (folder / f"group-{index:03d}.jpg").read_bytes()
        assert decode_image(content).shape[:2] == SIZES_HW[index] == stored_size(content)
