"""Baselines that are told nothing of the objects: segments of even colour."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from helpers import noise, written
from vos_lightning.data.instances import Image
from vos_lightning.data.videos import Given, Video
from vos_lightning.evaluation.baselines import SEGMENTS, baselines_of, colour_segments, matched_segments
from vos_lightning.scoring.measures import jaccard
from vos_lightning.scoring.rules import DavisRules

SIZE = (96, 160)
GROUND, RED, BLUE = (60, 90, 60), (220, 40, 40), (40, 60, 220)


def moving(folder: Path, frames: int = 12, late: int | None = None) -> Video:
    """A red rectangle that moves over a plain ground, and a blue one below it that starts at frame `late`."""
    pictures, masks = [], {}
    for t in range(frames):
        picture, mask = np.full((*SIZE, 3), GROUND, np.uint8), np.zeros(SIZE, np.uint8)
        rectangles = [(RED, slice(8, 43), slice(10 + 3 * t, 50 + 3 * t))]
        if late is not None and t >= late:
            rectangles.append((BLUE, slice(52, 90), slice(100 - 3 * t, 145 - 3 * t)))
        for number, (colour, rows, columns) in enumerate(rectangles, 1):
            picture[rows, columns], mask[rows, columns] = colour, number
        pictures.append(picture)
        masks[t] = mask
    return written(folder / "moving", pictures, masks)


def overlaps(video: Video, masks: list[np.ndarray], number: int) -> list[float]:
    """Jaccard of an object in the frames in which it is there."""
    true = [video.mask(t) == number for t in range(len(video))]
    return [jaccard(a, b == number) for a, b in zip(true, masks, strict=True) if a.any()]


@pytest.mark.parametrize("frames", [1, 3, 20])
@pytest.mark.parametrize("size", [(24, 40), (130, 90)])
def test_every_frame_is_divided_into_at_most_ten_segments(frames, size, tmp_path):
    for name, pictures in {
        "noise": noise(frames, size),
        "plain": [np.full((*size, 3), 128, np.uint8)] * frames,
    }.items():
        segments = list(colour_segments(written(tmp_path / name, pictures, {})))
        assert len(segments) == frames
        assert all(mask.shape == size and mask.dtype == np.uint8 for mask in segments)
        assert all(mask.min() >= 1 and mask.max() <= SEGMENTS for mask in segments)


def test_a_rectangle_that_moves_is_one_of_the_segments(tmp_path):
    video = moving(tmp_path)
    assert np.mean(overlaps(video, list(matched_segments(video)), 1)) > 0.8
    rules = DavisRules("unsupervised")
    assert rules.summary([rules.score(video, colour_segments(video))])["J"] > 0.8


def test_a_late_object_gets_a_segment_of_its_own_from_where_it_starts(tmp_path):
    video = moving(tmp_path, late=4)
    masks = list(matched_segments(video))
    assert [set(np.unique(mask)) for mask in masks] == [{0, 1}] * 4 + [{0, 1, 2}] * 8
    segments = list(colour_segments(video))
    chosen = [{*segments[t][masks[t] == i].tolist()} for t, i in ((0, 1), (11, 1), (4, 2), (11, 2))]
    assert chosen[0] == chosen[1] != chosen[2] == chosen[3]
    assert all(len(found) == 1 for found in chosen)
    assert np.mean(overlaps(video, masks, 2)) > 0.8


def test_more_objects_than_segments_leave_some_without(tmp_path):
    ids = np.arange(1, 13, dtype=np.uint8).repeat(4)[None].repeat(32, 0)
    video = written(tmp_path / "stripes", noise(3, ids.shape), dict.fromkeys(range(3), ids))
    later = list(matched_segments(video))[1:]  # the first masks are given
    named = set(np.unique(np.stack(later)).tolist()) - {0}
    assert 1 <= len(named) <= SEGMENTS and named <= set(range(1, 13))


def test_the_segments_of_an_image_divide_it(tmp_path):
    video = moving(tmp_path, frames=1)
    image = Image("one", video.frames[0])
    (found,) = baselines_of(Image, Given.NOTHING)["up to ten colour segments"](image)
    assert 1 <= len(found) <= SEGMENTS and found.masks.shape[1:] == SIZE
    assert (found.masks.sum(0) == 1).all()
    assert max(jaccard(mask, video.mask(0) == 1) for mask in found.masks) > 0.8


def test_a_grey_image_is_divided_too(tmp_path):
    Picture.fromarray(np.full((30, 300), 7, np.uint8)).save(tmp_path / "grey.png")
    (found,) = baselines_of(Image, Given.NOTHING)["up to ten colour segments"](
        Image("g", tmp_path / "grey.png")
    )
    assert (found.masks.sum(0) == 1).all()
