"""Fields that a model declares to mean nothing beside others: changing them there changes nothing.

They are left out of a run's identity, so that a declaration that is wrong would take one run for another.
"""

from collections.abc import Callable, Iterator
from dataclasses import is_dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from helpers import boxes, noise, written
from vos_lightning.configuration import compose_train
from vos_lightning.data.object_clips import Draw
from vos_lightning.data.scribbles import Interaction, Scribble
from vos_lightning.data.video_frames import frames_of
from vos_lightning.data.videos import Video
from vos_lightning.errors import InputError
from vos_lightning.evaluation.instances import InstanceEvaluation
from vos_lightning.evaluation.rounds import RoundsEvaluation
from vos_lightning.evaluation.videos import VideoEvaluation
from vos_lightning.fields import Where, fields_of
from vos_lightning.models.catalogue import MODELS
from vos_lightning.models.interface import Experiment
from vos_lightning.models.rsis.module import terms_of
from vos_lightning.runs.settings import read_settings

SMALL = ["data.size=[32,64]"]
SMALLER = {
    "rvos": ["model.hidden=16"],
    "s2s": ["model.hidden=16"],
    "rsis": ["model.hidden=16"],
    "ris": ["model.hidden=8"],
    "strnn": ["model.hidden=8", "model.channels=8"],
}
VALUES = [True, False, 3, 1, 2, 0.9, (64, 96), "deeplabv3_resnet50", "none"]  # some of each kind but choices


class Case(NamedTuple):
    """A field of a part, such as `prediction.online`, of experiments; it decides something only `where`."""

    architecture: str
    part: str
    field: str
    where: Where


def cases_of(architecture: str, part: str, kind: Any) -> Iterator[Case]:
    for field in fields_of(kind).values():
        yield from (Case(architecture, part, field.name, m) for m in field.marks if isinstance(m, Where))
        if field.part is not None and not field.many:
            yield from cases_of(architecture, f"{part}.{field.name}", field.part)


# Weights of a network that starts from others are never built, see `runs.load.build_network`.
CASES = [
    case
    for name, model in MODELS.items()
    for part in ("fields", "examples", "training", "prediction")
    for case in cases_of(name, part, getattr(model, part))
    if not case.where.other.startswith("train.")
]
# Of an example of the data set of training.
KEYS: dict[str, Any] = {"rvos": (0, 0), "s2s": Draw(0, 0, 3), "rsis": (0, 0), "ris": (0, 0), "strnn": (0, 0)}
LOSSES: dict[str, Callable[[Any, Any], torch.Tensor]] = {
    "rvos": lambda module, clip: module.clip_loss(clip, "inferred")[0],
    "s2s": lambda module, clip: module.clip_loss(clip)[0],
    "rsis": lambda module, batch: module.loss(
        terms_of(module.found(batch, 2), batch, module.training_fields.stop_balance), module.course.ever
    ),
    "ris": lambda module, batch: module.losses_of(batch, 2)[0],
    "strnn": lambda module, clip: module.clip_loss(clip, 0),
}


def condition(case: Case) -> tuple[str, str]:
    """The part and the field that a case's condition is about."""
    node, _, other = case.where.other.rpartition(".")
    return ({"model": "fields"}[node] if node else case.part), other


def changed(experiment: Any, part: str, field: str, value: Any) -> Any:
    """An experiment with a field of a part set."""
    first, _, rest = part.partition(".")
    inner = getattr(experiment, first)
    assert is_dataclass(inner)
    new = changed(inner, rest, field, value) if rest else replace(inner, **{field: value})
    return replace(experiment, **{first: new})


def others(experiment: Any, part: str, field: str, without: tuple[Any, ...]) -> Iterator[Experiment]:
    """The experiment with values of a field that are allowed, `without` some, where the whole is."""
    holder = experiment
    for name in part.split("."):
        holder = getattr(holder, name)
    kind = fields_of(type(holder))[field].kind
    assert kind is not None
    words = kind.wanted.partition("choose one of ")[2]
    for value in [*words.split(", "), *VALUES]:
        if kind.holds(list(value) if isinstance(value, tuple) else value) and value not in without:
            try:
                yield changed(experiment, part, field, value)
            except InputError:
                continue


def outcome(experiment: Experiment, video: Video) -> dict[str, torch.Tensor]:
    """A fresh network's weights, what it finds in a video or its last image, and its loss of an example."""
    torch.manual_seed(0)
    network = experiment.model.network(experiment.fields)
    with torch.no_grad():
        for weight in network.parameters():  # so that parts which begin as zeros show in the masks
            weight.add_(torch.randn_like(weight), alpha=0.02)
    evaluation = experiment.model.evaluation(network, experiment, "cpu")
    sample: Any = video
    if isinstance(evaluation, VideoEvaluation):
        frames = [video.frame(t) for t in range(len(video))]
        soft = torch.stack(list(evaluation.propagation.probabilities(frames, video.given())))
        found = {"soft": soft, "merged": torch.from_numpy(np.stack(list(evaluation.masks(video))))}
    elif isinstance(evaluation, RoundsEvaluation):
        scribble = Scribble(np.array([[0.1, 0.2], [0.3, 0.7]]), 1)
        found = {"masks": torch.from_numpy(evaluation.session(video).answer(Interaction(0, (scribble,))))}
    else:
        assert isinstance(evaluation, InstanceEvaluation)
        sample = frames_of([video], 1, experiment.data_set.categories)[-1]
        found = {k: torch.from_numpy(v) for k, v in vars(evaluation.detect(sample.frame())).items()}
    module = experiment.model.module(network, experiment.training, experiment.optimisation)
    example = experiment.examples.training([sample], experiment.fields.slots, 0, None)[
        KEYS[experiment.fields.architecture]
    ]
    batch = type(example)(*(part[None] for part in example))
    loss = LOSSES[experiment.fields.architecture](module.eval(), batch).detach()
    return {**network.state_dict(), **found, "loss": loss}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Video:
    """Six frames of noise in which object 2 starts in the fifth."""
    masks = {0: boxes((1, 2, 2, 24, 24), size=(32, 64))}
    masks[4] = masks[0] + boxes((2, 4, 34, 20, 20), size=(32, 64))
    return written(tmp_path_factory.mktemp("noise") / "video", noise(6, (32, 64)), masks)


def same(a: Experiment, b: Experiment, video: Video) -> bool:
    """Whether two experiments have the same fresh network and masks."""
    found, other = outcome(a, video), outcome(b, video)
    return found.keys() == other.keys() and all(torch.equal(found[key], other[key]) for key in found)


def small(case: Case) -> Experiment:
    overrides = [f"model={case.architecture}", "scale=embedded", *SMALL, *SMALLER.get(case.architecture, [])]
    return read_settings(compose_train(overrides)).experiment


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.architecture}-{case.field}")
def test_a_field_decides_nothing_where_its_condition_does_not_hold(case: Case, video: Video) -> None:
    idle = next(others(small(case), *condition(case), case.where.values))
    assert same(idle, next(v for v in others(idle, case.part, case.field, ()) if v != idle), video)


SEEN = ("feeds_unstarted", "feeds_next_stage", "window", "background", "given_frames")
DECIDING = [case for case in CASES if case.field in SEEN]


@pytest.mark.parametrize("case", DECIDING, ids=lambda case: f"{case.architecture}-{case.field}")
def test_these_decide_something_where_it_holds(case: Case, video: Video) -> None:
    base = changed(small(case), *condition(case), case.where.values[0])
    assert not same(base, next(v for v in others(base, case.part, case.field, ()) if v != base), video)
