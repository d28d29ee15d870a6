"""Rounds with a user: the protocol against the official figures, and what sessions leave on disk."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import SCENE, moving, scene
from vos_lightning.data.images import read_mask
from vos_lightning.data.scribbles import (
    Interaction,
    Scribble,
    ScribbleFile,
    scribbled_ids,
    write_scribbles,
)
from vos_lightning.data.videos import Given, Video
from vos_lightning.errors import InputError
from vos_lightning.evaluation.rounds import RoundsEvaluation
from vos_lightning.scoring import interactive
from vos_lightning.scoring.curves import SampleScore, summarise
from vos_lightning.scoring.interactive import Truth, play
from vos_lightning.scoring.measures import boundary_f, jaccard
from vos_lightning.scoring.rules import InteractiveRules

ORACLE = json.loads((Path(__file__).parent / "fixtures" / "interactive.json").read_text())

# --- figures ---------------------------------------------------------------------------------------------


def sample(name: str, seconds: list[float], values: list[float]) -> SampleScore:
    """A sample of one object whose J and F are the same."""
    column = np.array(values)[:, None]
    return SampleScore(name, (1,), True, np.array(seconds), column, column)


@pytest.mark.parametrize("number", range(3))
def test_the_curve_and_its_figures_are_the_official_ones(number: int) -> None:
    """Of two sequences, the second lacks the last interaction in the third case."""
    case, means = ORACLE["cases"][number], ORACLE["mean_metric_by_interaction"]
    times = ORACLE["mean_time_by_interaction_s"]
    metric, lacks = case.get("curve_metric", [0, *means, means[-1]]), number == 2
    first = sample("a", times, [*means[:3], 2 * metric[4] - means[2] if lacks else means[3]])
    second = sample("b", times[:3], means[:3]) if lacks else sample("b", times, means)
    limit = case["max_time_s_per_object"]
    found = summarise([first, second], 4, limit and limit / 4)
    np.testing.assert_allclose(found["curve"]["seconds"], case["curve_time_s"], atol=1e-9)
    np.testing.assert_allclose(found["curve"]["JF"], metric, atol=1e-9)
    assert found["AUC"] == pytest.approx(case["auc"], abs=1e-9)
    assert found["JF_60s"] == pytest.approx(case["metric_at_60s"], abs=1e-9)


def test_objects_weigh_alike_and_a_sample_without_a_round_counts_zero() -> None:
    two = SampleScore("a", (1, 2), True, np.array([4.0]), np.array([[0.9, 0.3]]), np.array([[0.5, 0.1]]))
    none = SampleScore("b", (1,), True, np.zeros(0), np.zeros((0, 1)), np.zeros((0, 1)))
    found = summarise([two, none], 2, 30.0)
    assert [r["JF"] for r in found["rounds"]] == pytest.approx([(0.7 + 0.2 + 0) / 3] * 2)
    assert [r["seconds"] for r in found["rounds"]] == pytest.approx([2.0, 2.0])
    assert found["curve"]["seconds"][-1] == pytest.approx(1.5 * 60)
    assert found["per_object"]["a_1"] == pytest.approx({"JF": 0.7, "J": 0.9, "F": 0.5})
    assert found["per_object"]["b_1"] == {"JF": 0, "J": 0, "F": 0}


# --- rounds ----------------------------------------------------------------------------------------------


class Colours:
    """Gives each pixel the id whose scribbled pixels have the nearest mean colour."""

    def __init__(self, video: Video) -> None:
        self.frames = np.stack([video.frame(t) for t in range(len(video))]).astype(float)
        self.known: list[Interaction] = []

    def answer(self, interaction: Interaction) -> np.ndarray:
        self.known.append(interaction)
        return self._masks()

    def undo(self) -> np.ndarray:
        self.known.pop()
        return self._masks()

    def _masks(self) -> np.ndarray:
        colours: dict[int, list[np.ndarray]] = {}
        for said in self.known:
            ids = scribbled_ids(said.scribbles, self.frames.shape[1:3])
            for i in np.unique(ids[ids >= 0]).tolist():
                colours.setdefault(i, []).append(self.frames[said.frame][ids == i].mean(axis=0))
        names = np.array(list(colours) or [0], np.uint8)
        means = np.stack([np.mean(c, axis=0) for c in colours.values()] or [np.zeros(3)])
        return names[np.square(self.frames[..., None, :] - means).sum(-1).argmin(-1)]


class Recorded:
    """Answers with masks that are known before, and remembers what it was told."""

    def __init__(self, answers: list[np.ndarray]) -> None:
        self.answers, self.told = iter(answers), list[Interaction]()

    def answer(self, interaction: Interaction) -> np.ndarray:
        self.told.append(interaction)
        return next(self.answers)


def test_each_round_is_on_the_worst_frame_that_is_free_and_is_scored_by_the_measures(tmp_path: Path) -> None:
    video = moving(tmp_path / "a")
    truth, rng = Truth(video), np.random.default_rng(1)
    answers = [rng.integers(0, 3, (4, *SCENE)).astype(np.uint8) for _ in range(7)]
    session = Recorded(answers)
    rounds = list(play(truth, lambda: session, truth.starts()[0], interactions=7))
    assert [told.last for told in session.told] == [False] * 6 + [True]
    assert session.told[0].frame == 2  # the largest objects, and the first such frame
    used: set[int] = set()
    for played, following in zip(rounds, session.told[1:], strict=False):
        scores = []
        for t in range(4):
            pairs = [(scene(t) == i, played.masks[t] == i) for i in (1, 2)]
            scores.append([(jaccard(*pair), boundary_f(*pair)) for pair in pairs])
        np.testing.assert_array_equal(np.stack([played.j, played.f], axis=2), scores)
        free = set(range(4)) - used or set(range(4))  # the first scribbles' frame counts as free
        assert following.frame == min(free, key=lambda t: np.mean(scores[t]))
        used.add(following.frame)
    assert used == set(range(4))
    first_two = interactive.sample_score(truth, rounds[:2])
    untouched = [t for t in range(4) if t not in {session.told[0].frame, session.told[1].frame}]
    both = (rounds[1].j + rounds[1].f)[untouched] / 2
    np.testing.assert_allclose(first_two.untouched, both.mean(axis=0))


def clock(monkeypatch: pytest.MonkeyPatch, *seconds: float) -> Callable[[Video], Any]:
    """A session whose answers take so many seconds each, by a clock of their own."""
    now, left = [0.0], iter(seconds)
    monkeypatch.setattr(interactive.time, "monotonic", lambda: now[0])

    class Slow:
        def __init__(self, video: Video) -> None:
            self.shape = (len(video), *SCENE)
            now[0] += 1.0

        def answer(self, interaction: Interaction) -> np.ndarray:
            now[0] += next(left)
            return np.zeros(self.shape, np.uint8)

    return Slow


def test_time_is_shared_by_the_rounds_of_a_sample_and_a_late_round_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = moving(tmp_path / "a")
    truth = Truth(video)
    slow = clock(monkeypatch, 99.0, 20.0, 1.0)  # of 3 rounds x 20 s x 2 objects
    rounds = list(play(truth, lambda: slow(video), truth.starts()[0], interactions=3, seconds=20.0))
    assert [r.seconds for r in rounds] == [100.0, 20.0]


def test_a_session_that_is_too_slow_for_any_round_scores_zero(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation = RoundsEvaluation(clock(monkeypatch, 1e9), Given.SCRIBBLES)
    found = evaluation.score([moving(tmp_path / "a")], InteractiveRules(), tmp_path / "out")
    assert (found["AUC"], found["JF"], found["JF_first"]) == (0, 0, 0)
    assert not read_mask(tmp_path / "out/a/00000.png").any()


def test_a_session_is_asked_without_scribbles_where_the_robot_has_none(tmp_path: Path) -> None:
    video = moving(tmp_path / "a")
    session = Recorded([np.stack([scene(t) for t in range(4)])] * 3)
    truth = Truth(video)
    rounds = list(play(truth, lambda: session, truth.starts()[0], interactions=3))
    assert [len(told.scribbles) for told in session.told[1:]] == [0, 0]
    assert all((r.j == 1).all() and (r.f == 1).all() for r in rounds)


# --- evaluations -----------------------------------------------------------------------------------------


def masks_of(folder: Path, video: Video) -> list[np.ndarray]:
    """What is written of a video."""
    return [read_mask(folder / video.name / f"{frame.stem}.png") for frame in video.frames]


def test_scribbles_make_a_model_better_and_score_and_write_leave_the_same(tmp_path: Path) -> None:
    video = moving(tmp_path / "a", annotated=(0, 2, 4), frames=6)  # as YouTube-VOS, with a late object
    evaluation = RoundsEvaluation(Colours, Given.SCRIBBLES)
    rules = InteractiveRules(interactions=4)
    found = evaluation.score([video], rules, tmp_path / "out")
    assert found["JF_first"] < 0.7 and found["JF"] > 0.95
    assert found["protocol"].endswith("first scribbles by the robot") and rules.name.isascii()
    assert found.keys() >= set(rules.headline.values())
    assert evaluation.timings[0].frames == 6 and len(evaluation.shown(video, tmp_path / "out")) == 3
    assert (len(list(evaluation.write(video, tmp_path / "again")))) == 6
    for before, after in zip(*(masks_of(tmp_path / n, video) for n in ("out", "again")), strict=True):
        np.testing.assert_array_equal(before, after)
    with pytest.raises(InputError, match="no server"):
        evaluation.submit([video], tmp_path / "a.zip")


def with_files(video: Video, folder: Path, *drawn: ScribbleFile) -> Video:
    """The video with files of first scribbles."""
    paths = tuple(folder / f"{n:03d}.json" for n in range(len(drawn)))
    for path, content in zip(paths, drawn, strict=True):
        write_scribbles(path, content)
    return Video(video.name, video.frames, video.masks, presence=video.presence, scribbles=paths)


def across(i: int, t: int = 0, name: str = "a", frames: int = 4) -> ScribbleFile:
    """A short line of one id on frame t."""
    line = Scribble(np.array([[0.1, 0.2], [0.2, 0.2]]), i)
    return ScribbleFile(name, tuple((line,) if n == t else () for n in range(frames)))


def test_each_published_file_is_a_sample_of_its_own(tmp_path: Path) -> None:
    video = with_files(moving(tmp_path / "a"), tmp_path, across(1), across(1, t=3))
    evaluation = RoundsEvaluation(Colours, Given.SCRIBBLES)
    found = evaluation.score([video], InteractiveRules(interactions=2), tmp_path / "out")
    assert found["protocol"].endswith("first scribbles as published") and len(evaluation.timings) == 2
    assert [first.frame for first in Truth(video, corrects=True).starts()] == [0, 3]
    np.testing.assert_array_equal(Truth(video, corrects=True).starts()[1].mask, scene(3))


@pytest.mark.parametrize(
    "drawn", [across(3), across(1, name="b"), across(1, frames=5)], ids=["object", "video", "length"]
)
def test_published_scribbles_of_something_else_are_refused(tmp_path: Path, drawn: ScribbleFile) -> None:
    video = with_files(moving(tmp_path / "a"), tmp_path, drawn)
    with pytest.raises(InputError, match=r"000\.json: "):
        Truth(video).starts()


@pytest.mark.parametrize("annotated", [(0,), (0, 1)], ids=["first", "late"])
def test_a_video_with_first_masks_alone_is_segmented_from_them(
    tmp_path: Path, annotated: tuple[int, ...]
) -> None:
    video = moving(tmp_path / "a", annotated=annotated)
    sessions: list[Colours] = []

    def begin(video: Video) -> Colours:
        sessions.append(Colours(video))
        return sessions[-1]

    written = list(RoundsEvaluation(begin, Given.SCRIBBLES).write(video, tmp_path / "out"))
    (session,) = sessions
    assert [said.frame for said in session.known] == list(annotated) and session.known[-1].last
    assert {s.id for said in session.known for s in said.scribbles} >= set(video.objects)
    np.testing.assert_array_equal(written, session._masks())
