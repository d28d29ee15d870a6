"""Clips of one object: where they start, what they hold, and that seed and epoch decide them."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from helpers import boxes, written
from vos_lightning.configuration import compose_train
from vos_lightning.data.clips import Augmentation, Clip, to_network
from vos_lightning.data.examples import SingleObjects
from vos_lightning.data.object_clips import Draw, DrawSampler, ObjectClips
from vos_lightning.data.videos import Video
from vos_lightning.errors import InputError
from vos_lightning.runs.settings import read_settings

SIZE = (32, 48)
FRAMES, STRIDE, LATE = 21, 5, 10  # every fifth frame is annotated; object 4 comes late


@pytest.fixture
def video(tmp_path: Path) -> Video:
    """A video whose frames have their number as brightness; object 2 moves on and is gone in frame 15."""
    frames, masks = [np.full((*SIZE, 3), 10 * t, np.uint8) for t in range(FRAMES)], {}
    for t in range(0, FRAMES, STRIDE):
        moving = [(2, 4, t, 12, 12)] if t != 15 else []
        late = [(4, 20, 8, 10, 12)] if t >= LATE else []
        masks[t] = boxes(*moving, *late, size=SIZE)
    return written(tmp_path / "video", frames, masks)


def times_of(clip: Clip) -> list[int]:
    """The frames of a clip, from their brightness."""
    black, white = to_network([np.full((*SIZE, 3), v, np.uint8) for v in (0, 250)], SIZE)
    shares = (clip.frames - black) / (white - black)
    return (25 * shares.mean((1, 2, 3))).round().int().tolist()


@pytest.mark.parametrize(("number", "ident"), [(0, 2), (1, 4), (2, 2)])
@pytest.mark.parametrize("every_frame", [False, True])
def test_a_clip_holds_its_object_alone(video: Video, number: int, ident: int, every_frame: bool) -> None:
    clips, starts = ObjectClips([video], SIZE, None, 0), set()
    for epoch in range(40):
        clip = clips[Draw(epoch, number, 3, every_frame)]
        times = times_of(clip)
        step = 1 if every_frame else STRIDE
        assert times == [min(times[0] + step * t, FRAMES - 1) for t in range(3)]
        assert clip.labels[0].any()
        assert clip.weights.flatten().tolist() == [float(t % STRIDE == 0) for t in times]
        for t, labels, weight in zip(times, clip.labels, clip.weights, strict=True):
            expected = (video.mask(t) == ident) if weight else np.zeros(SIZE, bool)
            assert np.array_equal(labels.numpy(), expected)
        starts.add(times[0])
    # Wherever the object is listed and the clip fits, and nowhere else.
    assert (
        starts
        == {
            (2, False): {0, 5, 10},
            (4, False): {10},
            (2, True): {0, 5, 10},
            (4, True): {10, 15},
        }[ident, every_frame]
    )


def test_a_short_video_repeats_its_last_frame(video: Video) -> None:
    clips = ObjectClips([video], SIZE, None, 0)
    assert times_of(clips[Draw(0, 1, 5)]) == [10, 15, 20, 20, 20]
    assert times_of(clips[Draw(0, 1, 13, True)]) == [*range(10, 21), 20, 20]


def test_the_object_stays_in_the_first_frame_of_a_warped_clip(video: Video) -> None:
    wild = Augmentation(translation=0.6)
    clips = ObjectClips([video], SIZE, wild, 0)
    assert all(clips[Draw(0, number, 2)].labels[0].any() for number in range(30))


def test_what_is_never_visible_has_no_loss(video: Video) -> None:
    clip = ObjectClips([video], SIZE, Augmentation(flip=0, rotation=0, zoom=(20, 20)), 0)[Draw(0, 0, 2)]
    assert not clip.labels[0].any() and not clip.weights.any()
    with pytest.raises(InputError, match="no object to train on"):
        ObjectClips([Video("empty", video.frames[15:], video.masks[15:], presence={})], SIZE, None, 0)


def test_a_video_gives_one_of_its_objects_at_random(video: Video) -> None:
    alone = Video("alone", video.frames, video.masks, presence={2: (5, 10)})
    clips = ObjectClips([video, alone], SIZE, None, 0, draw="video")
    assert len(clips) == 2

    def ident_of(draw: Draw) -> int:
        clip = clips[draw]
        shown = video.mask(times_of(clip)[0])
        return int(np.unique(shown[clip.labels[0].numpy() > 0]).item())

    drawn = [ident_of(Draw(0, number, 2)) for number in range(0, 60, 2)]
    assert 8 < drawn.count(2) < 22 and set(drawn) == {2, 4}
    assert {ident_of(Draw(0, number, 2)) for number in range(1, 20, 2)} == {2}
    # A restart at any place, in any order, draws the same.
    again = [ident_of(Draw(0, number, 2)) for number in reversed(range(0, 60, 2))]
    assert again[::-1] == drawn
    assert [ident_of(Draw(1, number, 2)) for number in range(0, 60, 2)] != drawn


@pytest.mark.parametrize("every_frame", [False, True])
def test_clips_may_be_the_objects_first_frames(video: Video, every_frame: bool) -> None:
    clips = ObjectClips([video], SIZE, None, 0, start="first")
    for number, first in ((0, 0), (1, LATE)):
        times = [times_of(clips[Draw(epoch, number, 3, every_frame)]) for epoch in range(5)]
        step = 1 if every_frame else STRIDE
        assert times == [[first, first + step, first + 2 * step]] * 5


@pytest.mark.parametrize("fields", [{"draw": "x"}, {"start": "x"}])
def test_unknown_ways_to_draw_are_named(video: Video, fields: dict[str, str]) -> None:
    with pytest.raises(InputError, match=r"data\.(draw|clip_start)=x: unknown; choose one of"):
        ObjectClips([video], SIZE, None, 0, **fields)


@pytest.mark.parametrize(
    ("scale", "expected"),
    [("paper", ("video", False)), ("small", ("object", True)), ("embedded", ("object", True))],
)
def test_only_the_papers_scale_draws_as_the_paper(scale: str, expected: tuple[str, bool]) -> None:
    cfg = compose_train(["model=s2s", "data=synthetic_youtube", f"scale={scale}"])
    examples = read_settings(cfg).experiment.examples
    assert isinstance(examples, SingleObjects)
    assert (examples.draw, examples.augment, examples.clip_start) == (*expected, "random")


def epoch_of(sampler: DrawSampler, epoch: int) -> list[Draw]:
    sampler.set_epoch(epoch)
    return list(sampler)


def test_a_batch_has_one_length_and_all_lengths_occur() -> None:
    draws = epoch_of(DrawSampler(302, 4, (5, 11), 0), 0)
    assert sorted(draw.number for draw in draws) == list(range(302))
    lengths = [{draw.length for draw in draws[i : i + 4]} for i in range(0, 302, 4)]
    assert all(len(found) == 1 for found in lengths)
    assert set.union(*lengths) == set(range(5, 12))


def test_seed_and_epoch_decide_the_clips(video: Video) -> None:
    def batches(seed: int, epoch: int, samples: int = 12) -> list[Clip]:
        clips, sampler = (
            ObjectClips([video], SIZE, Augmentation(), seed),
            DrawSampler(samples, 4, (2, 4), seed),
        )
        sampler.set_epoch(epoch)
        return list(islice(DataLoader(clips, batch_size=4, sampler=sampler), 3))

    def same(a: list[Clip], b: list[Clip]) -> bool:
        pairs = zip(a, b, strict=True)
        return all(x.frames.shape == y.frames.shape and torch.equal(x.frames, y.frames) for x, y in pairs)

    assert same(batches(0, 3), batches(0, 3))
    assert not same(batches(0, 3), batches(0, 4))
    assert not same(batches(0, 3), batches(1, 3))
