"""The robot that scribbles, against the official one (fixtures/robot.npz) and slow formulas."""

from pathlib import Path

import numpy as np
import pytest

from helpers import boxes
from vos_lightning.scoring.robot import CURVE_POINTS, curve, robot_scribbles

OFFICIAL = np.load(Path(__file__).parent / "fixtures" / "robot.npz")


@pytest.mark.parametrize("k", range(len(OFFICIAL["truth"])))
def test_it_draws_what_the_official_robot_draws(k: int) -> None:
    """davisinteractive 1.0.4 drew on these frames, of which every 111th point is kept."""
    of_frame = OFFICIAL["frame"] == k
    drawn = robot_scribbles(OFFICIAL["truth"][k], OFFICIAL["predicted"][k], (1, 2))
    assert [s.id for s in drawn] == OFFICIAL["id"][of_frame].tolist()
    np.testing.assert_allclose([s.path[::111] for s in drawn], OFFICIAL["points"][of_frame], atol=1e-9)


def test_nothing_is_drawn_where_nothing_or_only_void_or_a_few_pixels_are_missed() -> None:
    truth = boxes((1, 4, 4, 30, 30), (255, 40, 40, 20, 20), size=(64, 64))
    assert robot_scribbles(truth, np.where(truth == 255, 0, truth), (1,)) == ()
    missed = truth.copy()
    missed[5, 5:8] = 0
    assert robot_scribbles(truth, missed, (1,)) == ()


def test_background_is_scribbled_where_an_object_is_seen_wrongly() -> None:
    wrong = boxes((2, 10, 10, 30, 12), size=(64, 64))
    (scribble,) = robot_scribbles(np.zeros_like(wrong), wrong, (1, 2))
    x, y = np.round(scribble.path * 64).astype(int).T  # by the robot's own measure, see docs/decisions.md
    assert scribble.id == 0 and (wrong[y, x] == 2).all()


def casteljau(path: np.ndarray, t: float) -> np.ndarray:
    """A point of a Bezier curve by repeated halving, which never leaves the path's range."""
    points = path.astype(float)
    while len(points) > 1:
        points = (1 - t) * points[:-1] + t * points[1:]
    return points[0]


@pytest.mark.parametrize("length", [2, 30, CURVE_POINTS])
def test_a_curve_is_bezier_s_from_its_end_without_overflow(length: int) -> None:
    steps = np.random.default_rng(0).integers(-1, 2, (length, 2))
    path = np.cumsum(steps, axis=0)
    found = curve(path)
    assert found.shape == (CURVE_POINTS, 2)
    for n in (0, 321, CURVE_POINTS - 1):
        np.testing.assert_allclose(found[n], casteljau(path[::-1], n / (CURVE_POINTS - 1)), atol=1e-8)


def test_a_longer_path_stays_as_it_is() -> None:
    path = np.stack([np.arange(CURVE_POINTS + 1), np.zeros(CURVE_POINTS + 1, int)], axis=1)
    np.testing.assert_array_equal(curve(path), path)
