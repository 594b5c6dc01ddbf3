"""Several faces in one picture: who hides whom, and that each is drawn as if it were alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from render.face_buffers import FaceBuffers, draw_faces
from render.zbuffer import rasterize

SIZE_HW = (40, 56)
TRIANGLES = np.array([[0, 1, 2], [1, 3, 2], [0, 2, 3]], dtype=np.int32)


def scraps(seed: int, n: int) -> list[np.ndarray]:
    """Small crooked surfaces strewn over the picture and its surroundings, some of them turned away."""
    rng = np.random.default_rng(seed)
    return [
        (rng.uniform(-12, 12, (4, 3)) + (*rng.uniform((-8, -8), (64, 48)), 100 * k)).astype(np.float32)
        for k in range(n)
    ]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 5))
def test_each_pixel_shows_the_nearest_of_the_faces_that_reach_it_as_that_face_alone_is_drawn(seed, n):
    faces = scraps(seed, n)
    scales = np.random.default_rng(seed).choice([0.5, 1.0, -2.0], n).tolist()
    drawn = draw_faces(faces, TRIANGLES, size_hw=SIZE_HW, scales=scales)
    alone = [rasterize(face, TRIANGLES, size_hw=SIZE_HW) for face in faces]
    expected = np.full(SIZE_HW, -1)
    for k in sorted(range(n), key=lambda k: (-abs(scales[k]), k))[::-1]:  # the painter's way: the nearest last
        expected[alone[k].covered] = k
    np.testing.assert_array_equal(drawn.face_index, expected)
    for k, buffers in enumerate(alone):
        mine = expected == k
        np.testing.assert_array_equal(drawn.buffers.triangle_id[mine], buffers.triangle_id[mine])
        np.testing.assert_array_equal(drawn.buffers.barycentric[mine], buffers.barycentric[mine])
        np.testing.assert_array_equal(drawn.buffers.depth[mine], buffers.depth[mine])
    nobody = expected < 0
    assert (drawn.buffers.triangle_id[nobody] == -1).all()
    assert np.isneginf(drawn.buffers.depth[nobody]).all()
    assert not drawn.buffers.barycentric[nobody].any()
    assert drawn.n_faces == n


def test_without_scales_the_first_of_the_list_is_the_nearest():
    face = np.array([[3, 3, 0], [3, 20, 0], [20, 3, 0], [30, 30, 0]], dtype=np.float32)
    drawn = draw_faces([face, face + (5, 5, 900)], TRIANGLES, size_hw=SIZE_HW)
    assert drawn.face_index[8, 8] == 0
    assert (drawn.face_index == 1).any()
    nearer = draw_faces([face, face + (5, 5, 900)], TRIANGLES, size_hw=SIZE_HW, scales=[1.0, 1.5])
    assert nearer.face_index[9, 9] == 1


def test_one_face_is_the_z_buffer_itself():
    (face,) = scraps(3, 1)
    drawn, alone = draw_faces([face], TRIANGLES, size_hw=SIZE_HW), rasterize(face, TRIANGLES, size_hw=SIZE_HW)
    np.testing.assert_array_equal(drawn.buffers.triangle_id, alone.triangle_id)
    np.testing.assert_array_equal(FaceBuffers.of_one(alone).face_index, drawn.face_index)


def test_no_face_is_an_empty_picture():
    drawn = draw_faces([], TRIANGLES, size_hw=SIZE_HW)
    assert not drawn.buffers.covered.any()
    assert (drawn.face_index == -1).all()


@pytest.mark.parametrize("scales", [[1.0], [1.0, np.nan]])
def test_scales_that_say_nothing_are_refused(scales):
    with pytest.raises(ValueError, match="2 faces need as many finite scales"):
        draw_faces(scraps(0, 2), TRIANGLES, size_hw=SIZE_HW, scales=scales)


def test_a_vertex_that_is_not_finite_is_named_for_the_second_face_too():
    first, second = scraps(0, 2)
    second[2, 1] = np.nan
    with pytest.raises(ValueError, match="vertex 2 is"):
        draw_faces([first, second], TRIANGLES, size_hw=SIZE_HW)
