"""J, F and the DAVIS protocols, on masks made here."""

import weakref
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from scipy.ndimage import uniform_filter

from helpers import boxes
from vos_lightning.errors import InputError
from vos_lightning.scoring.davis import score_video, summarise
from vos_lightning.scoring.measures import (
    boundary_f,
    boundary_radius,
    jaccard,
    outline,
    outline_agreement,
    statistics,
)

canvas = partial(boxes, size=(120, 200))
ONE, TWO = (1, 20, 20, 40, 40), (2, 60, 100, 30, 50)
HALF = (1, 20, 20, 40, 20)


def jf(score):
    return [(o.j.mean, o.f.mean) for o in score.objects]


# --- J and F ---------------------------------------------------------------------------------------------


def direct_f(truth, predicted, radius):
    """F from its definition, pixel by pixel."""
    height, width = truth.shape

    def edge(mask):
        points = set()
        for y in range(height):
            for x in range(width):
                near = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
                if any(v < height and u < width and mask[v, u] != mask[y, x] for v, u in near):
                    points.add((y, x))
        return points

    def grow(points):
        offsets = range(-radius, radius + 1)
        disk = [(dy, dx) for dy in offsets for dx in offsets if dy * dy + dx * dx <= radius * radius]
        return {(y + dy, x + dx) for y, x in points for dy, dx in disk}

    a, b = edge(truth), edge(predicted)
    if not a or not b:
        return float(not a and not b)
    precision, recall = len(b & grow(a)) / len(b), len(a & grow(b)) / len(a)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def blobs(seed, shape, cover):
    noise = uniform_filter(np.random.default_rng(seed).random(shape), 5)
    return noise > np.quantile(noise, 1 - cover)


@pytest.mark.parametrize("shape", [(40, 61), (33, 20), (7, 50), (1, 9), (9, 1)])
@pytest.mark.parametrize("radius", [1, 2, 5])
@pytest.mark.parametrize("cover", [0.03, 0.2, 0.9])
def test_f_agrees_with_its_definition(shape, radius, cover):
    truth, predicted = blobs(1, shape, cover), blobs(2, shape, cover)
    fast = outline_agreement(outline(truth, radius), outline(predicted, radius))
    assert fast == pytest.approx(direct_f(truth, predicted, radius), abs=1e-12)


@pytest.mark.parametrize("y", [0, 15, 30])
@pytest.mark.parametrize("x", [0, 20, 40])
def test_f_agrees_with_its_definition_at_borders(y, x):
    truth = canvas((1, y, x, 10, 20), size=(40, 60)) > 0
    predicted = np.roll(truth, (2, -3), (0, 1))
    fast = outline_agreement(outline(truth, 3), outline(predicted, 3))
    assert fast == pytest.approx(direct_f(truth, predicted, 3), abs=1e-12)


def test_f_matches_up_to_the_radius_and_no_further():
    def dot(y, x):
        return canvas((1, y, x, 1, 1), size=(60, 60)) > 0

    def f(other):
        return outline_agreement(outline(dot(20, 20), 5), outline(other, 5))

    assert f(dot(23, 24)) == 1  # 3-4-5: on the circle
    # A dot's outline is a square of four pixels; only the nearest pair of corners is (5, 0) apart.
    assert f(dot(26, 21)) == 0.25
    assert f(dot(40, 40)) == 0


@pytest.mark.parametrize(
    ("shape", "radius"), [((480, 854), 8), ((256, 448), 5), ((720, 1280), 12), ((9, 9), 1)]
)
def test_radius_follows_the_diagonal(shape, radius):
    assert boundary_radius(shape) == radius


@pytest.mark.parametrize(
    ("truth", "predicted", "j", "f"),
    [
        (canvas(), canvas(), 1, 1),
        (canvas(), canvas(ONE), 0, 0),
        (canvas(ONE), canvas(), 0, 0),
        (canvas(ONE), canvas(ONE), 1, 1),
        (np.ones((8, 8)), np.ones((8, 8)), 1, 1),
        (np.ones((8, 8)), np.zeros((8, 8)), 0, 1),  # neither has an outline
    ],
)
def test_empty_and_full_masks(truth, predicted, j, f):
    assert (jaccard(truth == 1, predicted == 1), boundary_f(truth == 1, predicted == 1)) == (j, f)


@pytest.mark.parametrize("seed", range(10))
def test_measures_are_symmetric_and_within_0_and_1(seed):
    a, b = blobs(seed, (48, 85), 0.3), blobs(seed + 100, (48, 85), 0.1)
    for measure in (jaccard, boundary_f):
        assert 0 <= measure(a, b) <= 1
        assert measure(a, b) == pytest.approx(measure(b, a), abs=1e-15)
        assert measure(a, a) == 1


def test_statistics():
    mean, recall, decay = statistics(np.array([1.0, 0.5, 0.75, 0.25]))
    # Quarters of four frames are 0..1, 1..2, 2..2 and 2..3: 1.75 and 3.25 round to 2 and 3.
    assert (mean, recall, decay) == (0.625, 0.5, 0.25)
    # Of seven frames the first quarter is 0..2 and the last 5..6: 2.5 and 5.5 round up.
    assert statistics(np.array([1, 1, 0, 0, 0, 1, 0])).decay == pytest.approx(2 / 3 - 1 / 2)
    assert statistics(np.array([0.4])) == (0.4, 0.0, 0.0)
    with pytest.raises(ValueError, match="at least one frame"):
        statistics(np.zeros(0))


def test_decay_of_a_long_sequence():
    assert statistics(np.repeat([1.0, 0.75, 0.5, 0.25], 250)).decay == pytest.approx(0.75, abs=2e-3)


# --- semi-supervised, edge cases as the official evaluation answers them ---------------------------------


def test_object_absent_for_a_while_and_missed():
    truth = [canvas(ONE) if 1 <= t <= 5 else canvas(ONE, TWO) for t in range(10)]
    assert jf(score_video(truth, [canvas(ONE)] * 10)) == [(1, 1), (0.625, 0.625)]


def test_void_is_background():
    truth = [canvas(ONE, (255, 20, 60, 40, 10))] * 10
    (score,) = score_video(truth, [canvas((1, 20, 20, 40, 50))] * 10).objects
    assert score.j.mean == 0.8 and score.f.mean < 1


def test_extra_id_is_an_error_that_names_it():
    predicted = [canvas(ONE)] * 10
    predicted[4] = canvas(ONE, (3, 0, 0, 5, 5))
    with pytest.raises(InputError, match=r"swan, frame 4: id 3"):
        score_video([canvas(ONE)] * 10, predicted, name="swan")


@pytest.mark.parametrize("t", [0, 9])
def test_frames_that_are_not_scored_may_hold_anything(t):
    predicted = [canvas(ONE)] * 10
    for mask in (canvas(ONE, (3, 0, 0, 5, 5)), canvas(size=(5, 5)), None):
        predicted[t] = mask
        assert jf(score_video([canvas(ONE)] * 10, predicted)) == [(1, 1)]


def test_id_without_pixels_counts_as_an_object():
    masks = [canvas(ONE, (3, 60, 100, 30, 50))] * 10
    assert jf(score_video(masks, masks)) == [(1, 1)] * 3


def test_object_that_comes_later_is_not_scored():
    truth = [canvas(ONE) if t < 4 else canvas(ONE, TWO) for t in range(10)]
    assert jf(score_video(truth, [canvas(ONE)] * 10)) == [(1, 1)]


def test_empty_prediction():
    assert jf(score_video([canvas(ONE)] * 10, [canvas(ONE)] + [canvas()] * 9)) == [(0, 0)]


def test_object_gone_but_still_predicted():
    truth = [canvas(ONE)] * 4 + [canvas()] * 6
    (score,) = score_video(truth, [canvas(ONE)] * 10).objects
    assert score.j == score.f == (0.375, 0.375, 1.0)


def test_half_a_box():
    (score,) = score_video([canvas(ONE)] * 10, [canvas(HALF)] * 10).objects
    assert score.j == (0.5, 0, 0)
    assert score.f == pytest.approx((0.6071, 1, 0), abs=5e-5)


@pytest.mark.parametrize(
    ("length", "j", "f", "j_decay", "f_decay"),
    [(200, 0.8763, 0.9028, 0.49, 0.385), (300, 0.8758, 0.9024, 0.4933, 0.3876)],
)
def test_last_quarter_half_a_box(length, j, f, j_decay, f_decay):
    predicted = (canvas(ONE if t < length * 3 // 4 else HALF) for t in range(length))
    (score,) = score_video((canvas(ONE) for _ in range(length)), predicted).objects
    assert (score.j.mean, score.f.mean) == pytest.approx((j, f), abs=5e-5)
    assert (score.j.decay, score.f.decay) == pytest.approx((j_decay, f_decay), abs=1e-4)


def test_frames_are_not_kept():
    yielded = []

    def frames():
        for _ in range(20):
            mask = canvas(ONE)
            yielded.append(weakref.ref(mask))
            assert sum(ref() is not None for ref in yielded) <= 4
            yield mask

    score_video(frames(), (canvas(ONE) for _ in range(20)))
    assert len(yielded) == 20


def test_bad_input_in_process():
    masks = [canvas(ONE)] * 5
    with pytest.raises(InputError, match=r"frame 2: the mask must be 200x120 not 10x20"):
        score_video(masks, [canvas(ONE)] * 2 + [canvas(size=(20, 10))] * 3)
    with pytest.raises(InputError, match="frame 1: no prediction"):
        score_video(masks, [None] * 5)
    with pytest.raises(InputError, match="no frame to score"):
        score_video(masks[:2], masks[:2])
    with pytest.raises(InputError, match="no frame to score"):
        score_video([], [])
    with pytest.raises(InputError, match="Protocol best is unknown"):
        score_video(masks, masks, "best")
    with pytest.raises(ValueError, match="shorter"):
        score_video(masks, masks[:4])


def test_summary_is_the_mean_over_objects_not_sequences():
    good = score_video([canvas(ONE, TWO)] * 5, [canvas(ONE, TWO)] * 5, name="good")
    bad = score_video([canvas(ONE)] * 5, [canvas()] * 5, name="bad")
    scores = summarise([good, bad])
    assert scores.j.mean == scores.f.mean == scores.jf == pytest.approx(2 / 3)
    assert list(scores.to_dict()["per_object"]) == ["good_1", "good_2", "bad_1"]
    with pytest.raises(InputError, match="nothing to score"):
        summarise([score_video([canvas()] * 5, [canvas()] * 5)])
    with pytest.raises(ValueError, match="different protocols"):
        summarise([good, replace(bad, protocol="unsupervised")])


# --- unsupervised ----------------------------------------------------------------------------------------


def test_ids_of_proposals_do_not_matter():
    rng = np.random.default_rng(3)
    truth = [canvas(ONE, TWO, (255, 0, 0, 9, 9)) for _ in range(6)]
    boxes = [(1, 22, 21, 38, 44), (2, 55, 98, 30, 40), (3, 58, 104, 30, 46), (4, 90, 10, 20, 20)]
    predicted = [canvas(*boxes)] * 6
    expected = score_video(truth, predicted, "unsupervised")
    for _ in range(4):
        order = np.concatenate(([0], rng.permutation(4) + 1)).astype(np.uint8)
        assert score_video(truth, [order[mask] for mask in predicted], "unsupervised") == expected


def test_a_proposal_keeps_its_object_for_the_whole_sequence():
    truth = [canvas(ONE)] * 4
    predicted = [canvas((5, *ONE[1:]))] * 3 + [canvas((9, *ONE[1:]))]
    assert jf(score_video(truth, predicted, "unsupervised")) == [(0.75, 0.75)]


def test_first_and_last_frame_are_scored():
    truth = [canvas(ONE)] * 4
    assert jf(score_video(truth, [canvas(), *truth[:2], canvas()], "unsupervised")) == [(0.5, 0.5)]


def test_void_is_left_out():
    truth = [canvas(ONE, (255, 0, 100, 120, 100))] * 3
    predicted = [canvas(ONE, (1, 30, 120, 40, 40))] * 3
    assert jf(score_video(truth, predicted, "unsupervised")) == [(1, 1)]


def test_more_objects_than_proposals_allowed():
    truth = [np.arange(26, dtype=np.uint8).repeat(40).reshape(26, 40)] * 2
    predicted = [np.where(truth[0] > 20, 0, truth[0])] * 2
    scores = jf(score_video(truth, predicted, "unsupervised"))
    assert scores == [(1, 1)] * 20 + [(0, 0)] * 5


def test_an_object_takes_a_bad_proposal_rather_than_none():
    truth, predicted = [canvas(ONE)] + [canvas()] * 3, [canvas((1, *TWO[1:]))] * 4
    assert jf(score_video(truth, predicted, "unsupervised")) == [(0, 0)]


def test_fewer_proposals_than_objects():
    truth, predicted = [canvas(ONE, TWO)] * 3, [canvas((1, *TWO[1:]))] * 3
    assert jf(score_video(truth, predicted, "unsupervised")) == [(0, 0), (1, 1)]


def test_proposals_are_limited():
    truth = [canvas(ONE)] * 3
    assert jf(score_video(truth, [canvas((20, *ONE[1:]))] * 3, "unsupervised")) == [(1, 1)]
    with pytest.raises(InputError, match="frame 0: id 21 is beyond the 20 proposals"):
        score_video(truth, [canvas((21, *ONE[1:]))] * 3, "unsupervised")


def test_no_objects_or_no_frames_unsupervised():
    assert score_video([canvas()] * 3, [canvas()] * 3, "unsupervised").objects == ()
    assert score_video([canvas()] * 3, [canvas(ONE)] * 3, "unsupervised").objects == ()
    with pytest.raises(InputError, match="no frame to score"):
        score_video([], [], "unsupervised")
