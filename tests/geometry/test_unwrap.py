from itertools import combinations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import Delaunay

from geometry.built_in import load_built_in
from geometry.edge_weights import CornerGeometry
from geometry.intrinsic_delaunay import intrinsic_delaunay
from geometry.landmarks import INNER_LIPS, LEFT_EYE, NOSE_RIDGE, RIGHT_EYE
from geometry.mesh import Mesh, boundary_loops
from geometry.unwrap import TutteMap, outer_loop, tutte, tutte_map

WEIGHTS = ("uniform", "mean-value", "conformal")
SEEDS = st.integers(0, 2**32 - 1)


# Meshes --------------------------------------------------------------------------------------------------------


def disk(rng, *, rings=4, sectors=9, height=0.3, jitter=0.3, hole=False, ellipse=(1.0, 1.3)):
    """A lopsided bumpy disk, or an annulus whose inner rim is its first ring; its rim is a clean ellipse."""
    radii = np.arange(1, rings + 1) / rings
    angles = 2 * np.pi * (np.arange(sectors) + 0.1 * rng.uniform(-1, 1, sectors)) / sectors
    radius, angle = (a.ravel() for a in np.meshgrid(radii, angles, indexing="ij"))
    inner = radius < 1
    radius = radius + inner * jitter / rings * rng.uniform(-1, 1, radius.size)
    angle = angle + inner * jitter / sectors * rng.uniform(-1, 1, radius.size)
    vertices = np.stack([ellipse[0] * radius * np.cos(angle), ellipse[1] * radius * np.sin(angle)], axis=1)
    vertices = np.column_stack([vertices, height * rng.normal(size=radius.size) + 0.2 * vertices[:, 0]])
    k, s = (a.ravel() for a in np.meshgrid(np.arange(rings - 1), np.arange(sectors), indexing="ij"))
    a, b = k * sectors + s, k * sectors + (s + 1) % sectors
    c, d = a + sectors, b + sectors
    triangles = [np.stack([a, c, d], axis=1), np.stack([a, d, b], axis=1)]
    if not hole:
        vertices = np.concatenate([vertices, [[0.05, 0.02, 0.01 + 0.1 * height]]])
        first = np.arange(sectors)
        centre = np.full(sectors, rings * sectors)
        triangles.append(np.stack([centre, first, (first + 1) % sectors], axis=1))
    return Mesh(vertices, np.concatenate(triangles).astype(np.int32))


def face_like_annulus(*, n_vertices=53_215, n_outer=512, n_inner=78, seed=0):
    """The counts of the Basel Face Model as 300W-LP cuts it; a height field with nose, sockets and a mouth slit."""
    rng = np.random.default_rng(seed)
    n_free = n_vertices - n_outer - n_inner
    half, centre, slit = np.array([90.0, 105.0]), np.array([0.0, -8.0]), np.array([1.0, -40.0])
    outer = centre + half * circle(n_outer)
    inner = slit + (25.0, 1.5) * circle(n_inner)
    spacing = np.sqrt(np.pi * half.prod() / n_free)
    x, y = np.meshgrid(np.arange(-90, 90, 0.98 * spacing), np.arange(-115, 100, 0.98 * spacing))
    x[::2] += spacing / 2
    grid = np.stack([x.ravel(), y.ravel()], axis=1) + spacing * rng.uniform(-0.3, 0.3, (x.size, 2))
    in_face = (((grid - centre) / (half - 0.8 * spacing)) ** 2).sum(axis=1) < 1
    in_slit = (((grid - slit) / np.array([25 + 0.5 * spacing, 1.5 + 0.8 * spacing])) ** 2).sum(axis=1) < 1
    free = grid[in_face & ~in_slit]
    flat = np.concatenate([outer, inner, rng.permutation(free)[:n_free]])
    triangles = counter_clockwise(flat, Delaunay(flat).simplices)
    rim = (triangles >= n_outer) & (triangles < n_outer + n_inner)
    return Mesh(np.column_stack([flat, face_height(*flat.T)]), triangles[~rim.all(axis=1)].astype(np.int32))


def face_height(x, y):
    skull = 100 - x**2 / 110 - (y + 8) ** 2 / 160
    nose = 38 * np.exp(-(((x - 1) / 12) ** 2) - ((y + 5) / 16) ** 2) * (1 - 0.3 * np.tanh((y + 15) / 3))
    sockets = 9 * np.exp(-(((np.abs(x + 0.5) - 32) / 11) ** 2) - ((y - 30) / 8) ** 2)
    return skull + nose - sockets


def circle(n):
    angle = 2 * np.pi * np.arange(n) / n
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def counter_clockwise(points, triangles):
    turned = signed_areas(points, triangles) < 0
    return np.where(turned[:, None], triangles[:, ::-1], triangles)


def flat_square(rng, n=7):
    """An unevenly spaced, irregularly triangulated flat unit square in the plane z = 2."""
    ticks = np.linspace(0, 1, n + 1)
    x, y = (a.ravel() for a in np.meshgrid(ticks, ticks))
    inside = (x > 0) & (x < 1) & (y > 0) & (y < 1)
    x, y = (a + inside * rng.uniform(-0.3, 0.3, a.size) / n for a in (x, y))
    i, j = (a.ravel() for a in np.meshgrid(np.arange(n), np.arange(n)))
    a = j * (n + 1) + i
    b, c, d = a + 1, a + n + 2, a + n + 1
    # the diagonals turn at random but in two corners, where a square's corner must not cut off a flat triangle
    rising = rng.random(len(a)) < 0.5
    rising[(i == 0) & (j == 0)] = rising[(i == n - 1) & (j == n - 1)] = True
    rising[(i == 0) & (j == n - 1)] = rising[(i == n - 1) & (j == 0)] = False
    first = np.where(rising[:, None], np.stack([a, b, c], 1), np.stack([a, b, d], 1))
    second = np.where(rising[:, None], np.stack([a, c, d], 1), np.stack([b, c, d], 1))
    triangles = np.concatenate([first, second]).astype(np.int32)
    return Mesh(np.stack([x, y, np.full(len(x), 2.0)], axis=1), triangles)


def spherical_cap(rings, *, opening=1.2):
    """A cap of the unit sphere about +z, `opening` radians from its pole to its rim; 6k vertices on ring k."""
    rows = [np.zeros((1, 2))]
    for k in range(1, rings + 1):
        rows.append(opening * k / rings * circle(6 * k))
    polar = np.concatenate(rows)
    triangles = counter_clockwise(polar, Delaunay(polar * (1 + 1e-9)).simplices)
    theta = np.linalg.norm(polar, axis=1)
    toward = polar / np.maximum(theta, 1e-300)[:, None]
    vertices = np.column_stack([np.sin(theta)[:, None] * toward, np.cos(theta)])
    stereographic = np.tan(theta / 2)[:, None] * toward / np.tan(opening / 2)
    return Mesh(vertices, triangles.astype(np.int32)), 0.5 + 0.5 * stereographic


# Independent measurements --------------------------------------------------------------------------------------


def signed_areas(uv, triangles):
    (ax, ay), (bx, by), (cx, cy) = (uv[triangles[:, k]].T for k in range(3))
    return 0.5 * (ax * (by - cy) + bx * (cy - ay) + cx * (ay - by))


def stiffness(vertices, triangles):
    """The cotangent Laplacian from the finite element side: K_ij = e_i · e_j / 4A, e_i the side opposite corner i."""
    corners = vertices[triangles]
    sides = [corners[:, (k + 2) % 3] - corners[:, (k + 1) % 3] for k in range(3)]
    four_areas = 2 * np.sqrt((np.cross(sides[0], sides[1]) ** 2).sum(axis=1))
    entries = [
        (triangles[:, i], triangles[:, j], np.einsum("tx,tx->t", sides[i], sides[j]) / four_areas)
        for i in range(3)
        for j in range(3)
    ]
    rows, columns, data = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    return sp.coo_array((data, (rows, columns)), shape=(len(vertices),) * 2).tocsr()


def residuals(matrix, uv, fixed):
    """The largest ‖Σ K_ij uv_j‖∞ of a free vertex, over Σ_j≠i |K_ij|, and over Σ_j≠i |K_ij| ‖uv_i − uv_j‖∞."""
    coo = matrix.tocoo()
    between = coo.row != coo.col
    rows, columns, data = coo.row[between], coo.col[between], np.abs(coo.data[between])
    weight = np.bincount(rows, data, len(uv))
    moved = np.bincount(rows, data * np.abs(uv[rows] - uv[columns]).max(axis=1), len(uv))
    free = np.setdiff1d(np.arange(len(uv)), fixed)
    pull = np.abs(matrix @ uv).max(axis=1)[free]
    return (pull / weight[free]).max(), (pull / moved[free]).max()


def naive_tutte(vertices, triangles, outer, border, weights):
    """Triangle by triangle into a dense matrix, angles by arc cosine: the slow obvious reference."""
    n = len(vertices)
    w = np.zeros((n, n))
    for triangle in triangles.tolist():
        for k in range(3):
            i, j, opposite = triangle[k], triangle[(k + 1) % 3], triangle[(k + 2) % 3]
            if weights == "uniform":
                w[i, j] = w[j, i] = 1
            elif weights == "conformal":
                cotangent = 1 / np.tan(angle_at(vertices, opposite, i, j))
                w[i, j] += cotangent / 2
                w[j, i] += cotangent / 2
            else:
                for this, that in ((i, j), (j, i)):
                    length = np.linalg.norm(vertices[this] - vertices[that])
                    w[this, that] += np.tan(angle_at(vertices, this, that, opposite) / 2) / length
    system = np.diag(w.sum(axis=1)) - w
    system[outer] = np.eye(n)[outer]
    right = np.zeros((n, 2))
    right[outer] = border
    return np.linalg.solve(system, right)


def angle_at(vertices, corner, one, other):
    a, b = vertices[one] - vertices[corner], vertices[other] - vertices[corner]
    return np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def dirichlet_energy(mesh, atlas):
    return float(np.einsum("vk,vk->", atlas.uv, stiffness(mesh.vertices, atlas.triangles) @ atlas.uv) / 2)


# The theorem: nothing folds ------------------------------------------------------------------------------------


@pytest.mark.parametrize("hole", [False, True])
@pytest.mark.parametrize("boundary", ["square", "circle"])
@pytest.mark.parametrize("weights", WEIGHTS)
@given(seed=SEEDS, height=st.sampled_from([0.0, 0.3, 3.0, 30.0]), jitter=st.floats(0, 0.45))
def test_no_triangle_folds(weights, boundary, hole, seed, height, jitter):
    mesh = disk(np.random.default_rng(seed), height=height, jitter=jitter, hole=hole)
    atlas = tutte(mesh, weights=weights, boundary=boundary)
    assert (signed_areas(atlas.uv, atlas.triangles) > 0).all()
    assert [len(loop) for loop in boundary_loops(atlas.triangles)] == [9]
    np.testing.assert_array_equal(atlas.triangles[: len(mesh.triangles)], mesh.triangles)


@pytest.mark.parametrize("weights", WEIGHTS)
@given(seed=SEEDS, thinness=st.sampled_from([1e-1, 1e-2, 1e-3]))
def test_slivers_and_needles_do_not_fold(weights, seed, thinness):
    mesh = disk(np.random.default_rng(seed), ellipse=(1.0, thinness), height=0.1)
    atlas = tutte(mesh, weights=weights)
    assert (signed_areas(atlas.uv, atlas.triangles) > 0).all()


@pytest.mark.parametrize("weights", WEIGHTS)
def test_triangles_without_area_on_the_surface_get_one_in_the_atlas(weights):
    mesh = disk(np.random.default_rng(5), hole=False)
    vertices = mesh.vertices.copy()
    vertices[3] = vertices[2]  # two vertices of the inner ring in one place
    vertices[10] = (vertices[9] + vertices[11]) / 2
    result = tutte_map(Mesh(vertices, mesh.triangles), weights=weights)
    assert result.n_folded == 0
    assert any("no area" in note for note in result.notes)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_an_ear_on_the_side_of_the_square_does_not_lie_flat_in_it(weights):
    """All three vertices of a triangle with two boundary edges lie on the border: on a straight side, without area."""
    mesh = disk(np.random.default_rng(6), sectors=16)
    rim = outer_loop(mesh)
    a, b = rim[3], rim[4]
    tip = (mesh.vertices[a] + mesh.vertices[b]) / 2 * 1.1
    mesh = Mesh(
        np.concatenate([mesh.vertices, tip[None]]),
        np.concatenate([mesh.triangles, [[b, a, len(mesh.vertices)]]]).astype(np.int32),
    )
    result = tutte_map(mesh, weights=weights)
    assert result.n_folded == 0
    assert "stand out by 1%" in result.notes[0]
    assert tutte_map(mesh, weights=weights, boundary="circle").notes == ()


@pytest.fixture(scope="module")
def skin():
    model = load_built_in()
    return model, Mesh(model.mean_shape, model.triangles)


@pytest.fixture(scope="module")
def annulus():
    return face_like_annulus()


def check_conformal_square_map(mesh, result: TutteMap):
    atlas = result.atlas
    assert result.repair == "none"
    assert result.n_folded == 0
    assert (signed_areas(atlas.uv, atlas.triangles) > 0).all()
    rim = boundary_loops(atlas.triangles)
    assert len(rim) == 1
    over_weights, over_moves = residuals(stiffness(mesh.vertices.astype(np.float64), atlas.triangles), atlas.uv, rim[0])
    assert over_weights < 1e-13
    assert over_moves < 1e-9
    assert result.residual < 1e-13
    u, v = atlas.uv[rim[0]].T
    assert (np.minimum(np.minimum(u, 1 - u), np.minimum(v, 1 - v)) == 0).all()
    assert signed_areas(atlas.uv, atlas.triangles).sum() == pytest.approx(1, abs=1e-12)


def test_the_built_in_skin_lies_flat_with_conformal_weights(skin):
    model, mesh = skin
    result = tutte_map(mesh)
    assert len(mesh.vertices) == 53_099
    assert result.n_negative > 20_000  # the theorem does not hold here: that nothing folds is a finding
    check_conformal_square_map(mesh, result)

    u, v = result.atlas.uv[model.landmark_vertices].T
    assert u[RIGHT_EYE].max() < u[LEFT_EYE].min()
    assert v[INNER_LIPS].max() < v[NOSE_RIDGE].min()
    assert v[NOSE_RIDGE].max() < v[RIGHT_EYE].max()


def test_an_annulus_like_the_basel_face_model_lies_flat_with_conformal_weights(annulus):
    assert len(annulus.vertices) == 53_215
    assert len(annulus.triangles) == 105_840
    assert [len(loop) for loop in boundary_loops(annulus.triangles)] == [512, 78]
    result = tutte_map(annulus)
    assert result.n_negative > 5_000
    check_conformal_square_map(annulus, result)
    assert len(result.atlas.triangles) == 105_840 + 76


@pytest.mark.parametrize("weights", ["uniform", "mean-value"])
def test_positive_weights_lay_big_meshes_flat(weights, skin, annulus):
    for mesh in (skin[1], annulus):
        result = tutte_map(mesh, weights=weights)
        assert (signed_areas(result.atlas.uv, result.atlas.triangles) > 0).all()
        assert result.n_negative == 0


def test_a_models_own_closing_triangles_are_used(skin):
    model, mesh = skin
    result = tutte_map(mesh, closing_triangles=model.closing_triangles)
    atlas = result.atlas
    np.testing.assert_array_equal(atlas.triangles, np.concatenate([model.triangles, model.closing_triangles]))
    assert result.notes == ()
    assert (signed_areas(atlas.uv, atlas.triangles) > 0).all()
    assert result.repair in ("none", "closing triangles clamped")
    rims = np.concatenate(boundary_loops(mesh.triangles))  # everywhere else the surface's own weights are untouched
    assert residuals(stiffness(mesh.vertices.astype(np.float64), mesh.triangles), atlas.uv, rims)[1] < 1e-9


# Conformal weights that fold -----------------------------------------------------------------------------------


def crumpled(seed, *, hole=False):
    return disk(np.random.default_rng(seed), height=0.4, rings=5, jitter=0.45, hole=hole)


def test_conformal_weights_that_fold_are_repaired_and_said_so():
    repairs = {}
    for seed in range(40):
        result = tutte_map(crumpled(seed, hole=seed % 2 == 0))
        assert result.n_folded == 0
        assert (result.repair == "none") == (result.n_folded_plain == 0)
        repairs.setdefault(result.repair, []).append(seed)
    assert set(repairs) == {"none", "closing triangles clamped", "intrinsic Delaunay", "all clamped"}


def test_a_delaunay_repair_solves_the_laplacian_of_the_intrinsic_triangulation():
    checked = 0
    for seed in range(30):
        mesh = crumpled(seed)
        result = tutte_map(mesh)
        if result.repair != "intrinsic Delaunay":
            continue
        checked += 1
        sides = CornerGeometry.of_mesh(mesh.vertices, result.atlas.triangles).lengths
        flipped = intrinsic_delaunay(result.atlas.triangles, sides)
        laplacian = np.zeros((len(mesh.vertices),) * 2)
        for triangle, (c, a, b) in zip(flipped.triangles, flipped.lengths, strict=True):  # c = 0→1, a = 1→2, b = 2→0
            for (i, j), (side, one, other) in zip(
                ((0, 1), (1, 2), (2, 0)), ((c, a, b), (a, b, c), (b, c, a)), strict=True
            ):
                weight = 0.5 / np.tan(np.arccos((one**2 + other**2 - side**2) / (2 * one * other)))
                laplacian[triangle[i], triangle[j]] -= weight
                laplacian[triangle[j], triangle[i]] -= weight
        np.fill_diagonal(laplacian, laplacian.diagonal() - laplacian.sum(axis=1))
        over_weights, over_moves = residuals(sp.csr_array(laplacian), result.atlas.uv, outer_loop(mesh))
        assert over_weights < 1e-11
        assert over_moves < 1e-9
        assert result.n_negative == 0
    assert checked


# What the maps are ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("boundary", ["square", "circle"])
@pytest.mark.parametrize("weights", WEIGHTS)
@given(seed=SEEDS, hole=st.booleans())
def test_the_map_is_the_naive_one(weights, boundary, seed, hole):
    mesh = disk(np.random.default_rng(seed), hole=hole, height=0.05)
    result = tutte_map(mesh, weights=weights, boundary=boundary)
    outer = outer_loop(mesh)
    expected = naive_tutte(mesh.vertices, result.atlas.triangles, outer, result.atlas.uv[outer], weights)
    assert result.repair == "none"
    np.testing.assert_allclose(result.atlas.uv, expected, atol=1e-11)


@pytest.mark.parametrize("weights", ["mean-value", "conformal"])
@given(seed=SEEDS)
def test_a_flat_square_stays_as_it_is(weights, seed):
    mesh = flat_square(np.random.default_rng(seed))
    np.testing.assert_allclose(tutte(mesh, weights=weights).uv, mesh.vertices[:, :2], atol=1e-12)


@pytest.mark.parametrize("weights", ["mean-value", "conformal"])
@given(seed=SEEDS)
def test_a_flat_mesh_stays_as_it_is_with_its_own_boundary_given(weights, seed):
    rng = np.random.default_rng(seed)
    mesh = disk(rng, height=0.0, jitter=0.2)
    flat = (mesh.vertices[:, :2] + 2) / 4
    turned = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    mesh = Mesh(mesh.vertices @ turned.T + rng.normal(size=3), mesh.triangles)
    atlas = tutte(mesh, weights=weights, boundary=flat[outer_loop(mesh)])
    np.testing.assert_allclose(atlas.uv, flat, atol=1e-12)


def test_uniform_weights_do_not_keep_a_flat_mesh():
    mesh = flat_square(np.random.default_rng(1))
    assert np.abs(tutte(mesh, weights="uniform").uv - mesh.vertices[:, :2]).max() > 0.01


@given(seed=SEEDS)
def test_conformal_weights_have_the_least_dirichlet_energy(seed):
    mesh = disk(np.random.default_rng(seed), height=0.05, jitter=0.1, rings=6, sectors=14)
    maps = {weights: tutte_map(mesh, weights=weights) for weights in WEIGHTS}
    energy = {weights: dirichlet_energy(mesh, result.atlas) for weights, result in maps.items()}
    assert maps["conformal"].repair == "none"
    assert energy["conformal"] < min(energy["uniform"], energy["mean-value"])
    area = signed_areas(maps["conformal"].atlas.uv, maps["conformal"].atlas.triangles).sum()
    assert energy["conformal"] > area  # which only a map that keeps all angles attains (Pinkall and Polthier 1993)


def test_the_map_of_a_spherical_cap_approaches_the_stereographic_one():
    errors = []
    for rings in (6, 12, 24):
        mesh, exact = spherical_cap(rings)
        errors.append(np.abs(tutte(mesh, boundary="circle").uv - exact).max())
    assert errors[0] < 6e-3
    assert errors[1] < errors[0] / 3
    assert errors[2] < errors[1] / 3


# Uprightness and invariance ------------------------------------------------------------------------------------


@given(seed=SEEDS)
def test_right_is_right_and_up_is_up(seed):
    mesh = disk(np.random.default_rng(seed), height=0.05, sectors=24)
    for boundary in ("square", "circle"):
        uv = tutte(mesh, boundary=boundary).uv - 0.5
        assert np.corrcoef(uv[:, 0], mesh.vertices[:, 0])[0, 1] > 0.9
        assert np.corrcoef(uv[:, 1], mesh.vertices[:, 1])[0, 1] > 0.9


@pytest.mark.parametrize("boundary", ["square", "circle"])
@given(seed=SEEDS)
def test_the_vertices_numbers_do_not_matter(boundary, seed):
    rng = np.random.default_rng(seed)
    mesh = disk(rng)
    order = rng.permutation(len(mesh.vertices))
    number = np.argsort(order).astype(np.int32)
    renumbered = Mesh(mesh.vertices[order], rng.permutation(number[mesh.triangles]))
    expected = tutte(mesh, weights="mean-value", boundary=boundary).uv[order]
    np.testing.assert_allclose(tutte(renumbered, weights="mean-value", boundary=boundary).uv, expected, atol=1e-10)


@given(seed=SEEDS)
def test_a_mirrored_face_gives_the_mirrored_atlas(seed):
    mesh = disk(np.random.default_rng(seed), sectors=24)
    mirrored = Mesh(mesh.vertices * (-1, 1, 1), mesh.triangles[:, ::-1].copy())
    uv = tutte(mesh, weights="mean-value", boundary="circle").uv
    other = tutte(mirrored, weights="mean-value", boundary="circle").uv
    np.testing.assert_allclose(other, np.stack([1 - uv[:, 0], uv[:, 1]], axis=1), atol=1e-10)


def test_the_same_mesh_gives_the_same_bytes():
    mesh = disk(np.random.default_rng(7), rings=30, sectors=60, height=0.01, hole=True)
    assert tutte(mesh).uv.tobytes() == tutte(mesh).uv.tobytes()


# Holes ---------------------------------------------------------------------------------------------------------


def test_free_holes_stay_open():
    mesh = disk(np.random.default_rng(8), hole=True, sectors=12)
    atlas = tutte(mesh, weights="mean-value", inner_loops="free")
    assert len(atlas.triangles) == len(mesh.triangles)
    assert [len(loop) for loop in boundary_loops(atlas.triangles)] == [12, 12]


def test_closing_triangles_that_make_no_surface_are_left_aside_with_a_note():
    mesh = disk(np.random.default_rng(9), hole=True)
    used_already = np.array([[0, 1, 9], [0, 2, 1]], dtype=np.int32)
    half_a_hole = np.array([[0, 1, 2]], dtype=np.int32)
    for closing, why in ((used_already, "edge"), (half_a_hole, "close no whole hole")):
        result = tutte_map(mesh, weights="mean-value", closing_triangles=closing)
        assert "were left aside" in result.notes[0]
        assert why in result.notes[0]
        assert result.n_folded == 0
        assert len(result.atlas.triangles) == len(mesh.triangles) + 7


def test_a_hole_whose_rim_has_an_ear_gets_no_edge_twice():
    """The hole's corner 0–1–2 is spanned by the mesh's own edge 0–2: the filling must not use that chord again."""
    mesh = disk(np.random.default_rng(10), hole=True, sectors=6)
    tip = (mesh.vertices[0] + mesh.vertices[1]) / 2 * 0.9
    ear = np.array([[1, len(mesh.vertices), 0]], dtype=np.int32)  # fills the rim's edge 0–1 from within
    mesh = Mesh(
        np.concatenate([mesh.vertices, tip[None]]), np.concatenate([mesh.triangles, ear[:, [0, 2, 1]][:, ::-1]])
    )
    edges = {frozenset(edge) for triangle in mesh.triangles.tolist() for edge in combinations(triangle, 2)}
    result = tutte_map(mesh, weights="uniform")
    filling = result.atlas.triangles[len(mesh.triangles) :]
    rim = boundary_loops(mesh.triangles)[0 if len(boundary_loops(mesh.triangles)[0]) == 7 else 1]
    rim_edges = {frozenset(edge) for edge in zip(rim.tolist(), np.roll(rim, -1).tolist(), strict=True)}
    chords = {frozenset(edge) for triangle in filling.tolist() for edge in combinations(triangle, 2)} - rim_edges
    assert not chords & edges
    assert result.n_folded == 0


# Refusals ------------------------------------------------------------------------------------------------------


def closed_surface():
    return Mesh(np.eye(4, 3) + 0.1, np.array([[0, 1, 2], [0, 3, 1], [1, 3, 2], [2, 3, 0]], dtype=np.int32))


def two_components():
    mesh = disk(np.random.default_rng(0))
    n = len(mesh.vertices)
    return Mesh(
        np.concatenate([mesh.vertices, mesh.vertices + 5]),
        np.concatenate([mesh.triangles, mesh.triangles + n]).astype(np.int32),
    )


def edge_with_three_triangles():
    mesh = disk(np.random.default_rng(0))
    fin = np.array([[0, 1, len(mesh.vertices)]], dtype=np.int32)
    return Mesh(np.concatenate([mesh.vertices, [[0.0, 0.0, 3.0]]]), np.concatenate([mesh.triangles, fin]))


def isolated_vertex():
    mesh = disk(np.random.default_rng(0))
    return Mesh(np.concatenate([mesh.vertices, [[0.0, 0.0, 3.0]]]), mesh.triangles)


def not_a_number():
    mesh = disk(np.random.default_rng(0))
    vertices = mesh.vertices.copy()
    vertices[4, 1] = np.nan
    return Mesh(vertices, mesh.triangles)


def duplicate_triangle():
    mesh = disk(np.random.default_rng(0))
    return Mesh(mesh.vertices, np.concatenate([mesh.triangles, mesh.triangles[5:6]]))


def triangle_wound_backwards():
    mesh = disk(np.random.default_rng(0))
    triangles = mesh.triangles.copy()
    triangles[5] = triangles[5, ::-1]
    return Mesh(mesh.vertices, triangles)


def points_on_a_line():
    mesh = disk(np.random.default_rng(0))
    return Mesh(mesh.vertices[:, :1] * (1, 0.3, 0.7) + 5, mesh.triangles)


def all_in_one_place():
    mesh = disk(np.random.default_rng(0))
    return Mesh(0 * mesh.vertices + 7, mesh.triangles)


def repeated_corner():
    mesh = disk(np.random.default_rng(0))
    return Mesh(mesh.vertices, np.concatenate([mesh.triangles, [[3, 3, 4]]]).astype(np.int32))


def torus_with_a_hole():
    n, m = 6, 5
    i, j = (a.ravel() for a in np.meshgrid(np.arange(n), np.arange(m), indexing="ij"))
    a, b, c, d = i * m + j, (i + 1) % n * m + j, (i + 1) % n * m + (j + 1) % m, i * m + (j + 1) % m
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])[1:].astype(np.int32)
    s, t = 2 * np.pi * i / n, 2 * np.pi * j / m
    ring = 2 + np.cos(t)
    return Mesh(np.stack([ring * np.cos(s), ring * np.sin(s), np.sin(t)], axis=1), triangles)


def no_triangles():
    return Mesh(np.zeros((3, 3)), np.zeros((0, 3), dtype=np.int32))


def one_triangle():
    return Mesh(np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), np.array([[0, 1, 2]], dtype=np.int32))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (closed_surface, "the surface is closed: it has no boundary"),
        (two_components, "2 separate components"),
        (edge_with_three_triangles, r"edge 0–1 has 3 triangles where a surface has one or two \(1 such edges\)"),
        (isolated_vertex, r"vertex 37 \(1 in all\) belongs to no triangle"),
        (not_a_number, r"vertex 4 \(1 in all\) has coordinates that are not finite"),
        (duplicate_triangle, "where a surface has one or two .* remove duplicate triangles"),
        (triangle_wound_backwards, "is used twice in one direction: .* not consistently wound"),
        (points_on_a_line, "no triangle of the surface has an area"),
        (all_in_one_place, "no triangle of the surface has an area"),
        (repeated_corner, r"triangle 63 has one vertex twice, \[3, 3, 4\]: remove it"),
        (torus_with_a_hole, "the surface has handles"),
        (no_triangles, "a mesh without triangles cannot be laid flat"),
        (one_triangle, "a boundary of 3 vertices has no four corners .* use the circle"),
    ],
)
def test_what_cannot_be_laid_flat_is_refused(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        tutte(make())


def test_one_triangle_lies_on_a_circle():
    uv = tutte(one_triangle(), boundary="circle").uv
    np.testing.assert_allclose(np.linalg.norm(uv - 0.5, axis=1), 0.5)


def test_a_boundary_of_another_length_is_refused():
    mesh = disk(np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"\(4, 2\) boundary positions for a loop of 9 vertices"):
        tutte(mesh, boundary=np.zeros((4, 2)))
    with pytest.raises(ValueError, match=r"boundary positions lie in \[0, 1\]"):
        tutte(mesh, boundary=np.full((9, 2), 2.0))


def test_a_folded_result_is_refused_but_can_be_looked_at():
    mesh = disk(np.random.default_rng(0), height=0.0)
    clockwise = 0.5 + 0.5 * circle(9) * (1, -1)
    with pytest.raises(ValueError, match=r"63 of 63 triangles fold or collapse with mean-value weights"):
        tutte(mesh, weights="mean-value", boundary=clockwise)
    assert tutte_map(mesh, weights="mean-value", boundary=clockwise).n_folded == 63
