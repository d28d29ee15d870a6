"""Models that take masks, in rounds: where corrected masks are propagated, and how rounds are played."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from helpers import SCENE, along, boxes, moving, ready_s2s, scene, small_rvos, written
from vos_lightning.configuration import compose_train
from vos_lightning.data.images import read_mask
from vos_lightning.data.scribbles import Interaction
from vos_lightning.data.videos import Given, Video
from vos_lightning.errors import InputError
from vos_lightning.evaluation.corrected import CorrectedSession, between, evaluation_along
from vos_lightning.evaluation.propagation import Propagation, VideoPrediction
from vos_lightning.evaluation.rounds import RoundsEvaluation
from vos_lightning.models.interface import Experiment
from vos_lightning.models.s2s.fields import OnlineFields
from vos_lightning.runs.settings import read_settings
from vos_lightning.scoring.rules import InteractiveRules


class Steps(Propagation):
    """Marks with the given mask's objects how many frames away it is: the mask moves a column each frame."""

    ran: ClassVar[list[tuple[int, int]]] = []  # the red of a run's first frame, and its length

    def masks(self, frames: Iterable[np.ndarray], given: Mapping[int, np.ndarray]) -> Iterator[np.ndarray]:
        seen = list(frames)
        self.ran.append((int(seen[0][0, 0, 0]), len(seen)))
        return (np.roll(given[0], n, axis=1) for n in range(len(seen)))

    def soft_masks(self, *_: Any) -> Any:
        raise AssertionError("masks, which is all that is asked for, needs none")


def numbered(folder: Path, frames: int, masks: dict[int, np.ndarray]) -> Video:
    """A video whose frame t is t in every pixel."""
    return written(folder, [np.full((*SCENE, 3), t, np.uint8) for t in range(frames)], masks)


def nearest(frames: int, given: dict[int, np.ndarray]) -> np.ndarray:
    """What `Steps` makes of masks by the rule, frame by frame."""
    sources = [min(given, key=lambda c: (abs(c - t), c)) for t in range(frames)]
    return np.stack([np.roll(given[c], abs(c - t), axis=1) for t, c in enumerate(sources)])


def test_each_frame_takes_the_nearest_corrected_one_and_only_what_changed_is_propagated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = numbered(tmp_path / "a", 12, {0: scene(0)})
    monkeypatch.setattr(Steps, "ran", [])
    session = CorrectedSession(Steps(None, VideoPrediction(), SCENE), video)
    masks = [boxes((i, 4, 4, 9, 9), size=SCENE) for i in (1, 2, 3, 4, 5)]
    given: dict[int, np.ndarray] = {}
    told: list[np.ndarray] = []
    for t, mask, ran in [
        (4, masks[0], [(4, 8), (4, 5)]),
        (9, masks[1], [(9, 3), (9, 3)]),  # frame 6, not 7, is nearer to the first
        (6, masks[2], [(6, 2)]),  # frame 5 is as near to both, and stays
        (6, masks[3], [(6, 2)]),
        (0, masks[4], [(0, 3)]),
    ]:
        Steps.ran.clear()
        given[t] = mask
        told.append(session.answer(Interaction(t, (), mask)))
        np.testing.assert_array_equal(told[-1], nearest(12, given))
        assert Steps.ran == ran
    Steps.ran.clear()
    for before in told[-2::-1]:
        np.testing.assert_array_equal(session.undo(), before)
    assert not session.undo().any() and not session.undo().any() and not Steps.ran
    np.testing.assert_array_equal(between(session.stretches.propagation, video, given), nearest(12, given))
    with pytest.raises(ValueError, match="without"):
        session.answer(Interaction(0, ()))


@pytest.mark.parametrize("kind", ["rvos", "s2s"])
def test_a_model_that_takes_masks_is_played_with_and_a_late_object_does_no_harm(
    tmp_path: Path, kind: str
) -> None:
    video = moving(tmp_path / "a", annotated=(0, 2, 4), frames=6)
    online = {"online": OnlineFields(enabled=True, steps=1)} if kind == "s2s" else {}
    network = small_rvos() if kind == "rvos" else ready_s2s(size=None)
    ready = along(network.eval(), (32, 64), rounds=True, **online)
    evaluation, rules = evaluation_along(ready), InteractiveRules(corrects=True, interactions=3)
    assert isinstance(evaluation, RoundsEvaluation)
    found = evaluation.score([video], rules, tmp_path / "out")
    assert "corrected masks" in found["protocol"] and rules.name != InteractiveRules(interactions=3).name
    assert found["JF"] == 1  # after as many rounds as frames are annotated, by which time all are given
    assert found["JF_untouched"] is None
    list(evaluation.write(video, tmp_path / "again"))
    only = moving(tmp_path / "only", annotated=(0, 1), frames=6)
    assert len(list(evaluation.write(only, tmp_path / "again"))) == 6
    np.testing.assert_array_equal(read_mask(tmp_path / "again/only/00001.png") == 2, scene(1) == 2)


def test_rounds_are_chosen_in_the_configuration_and_refused_where_no_mask_is_read() -> None:
    def experiment(model: str) -> Experiment:
        return read_settings(compose_train([f"model={model}", "predict.rounds=true"])).experiment

    for model in ("rvos", "s2s"):
        assert experiment(model).given is Given.CORRECTED
        assert experiment(model).rules == InteractiveRules(corrects=True)
    with pytest.raises(InputError, match=r"predict\.rounds=true"):
        _ = experiment("rvos_zero_shot").rules
