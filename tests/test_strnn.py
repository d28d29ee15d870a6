"""Features by pulling and pushing, ridge regression, and sessions with a user who scribbles."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import lstsq

from helpers import boxes, noise, written
from vos_lightning.data.clips import Clip, to_network
from vos_lightning.data.images import resize_labels
from vos_lightning.data.scribbles import Interaction, Scribble, scribbled_ids
from vos_lightning.data.videos import Video
from vos_lightning.errors import InputError
from vos_lightning.layers.dag_rnn import SpatioTemporalRNN
from vos_lightning.layers.ridge import ridge
from vos_lightning.models.strnn.fields import MetricTraining, PartStage, ScribblePrediction, STRNNFields
from vos_lightning.models.strnn.module import FeatureTraining, pull_and_push
from vos_lightning.models.strnn.network import STRNN
from vos_lightning.models.strnn.online import ScribbleSession, features_of
from vos_lightning.models.training import Optimisation

SIZE = (40, 72)


@pytest.mark.parametrize("samples, features", [(7, 12), (12, 12), (40, 12), (1, 3)])
@pytest.mark.parametrize("penalty", [1e-3, 1.0])
def test_ridge_equals_least_squares_of_the_augmented_system(
    samples: int, features: int, penalty: float
) -> None:
    rng = np.random.default_rng(samples)
    x, y = rng.standard_normal((samples, features)), rng.standard_normal((samples, 3))
    rows = np.vstack([x, penalty**0.5 * np.eye(features)])
    truth = lstsq(rows, np.vstack([y, np.zeros((features, 3))]))[0]
    found = ridge(torch.from_numpy(x), torch.from_numpy(y), penalty).numpy()
    np.testing.assert_allclose(found, truth, atol=1e-8)


def test_ridge_is_finite_whatever_the_samples() -> None:
    same = torch.ones(50, 8, dtype=torch.float64)
    for x in (same, 1e-200 * same, 1e8 * same, torch.zeros(5, 8), torch.zeros(0, 8)):
        assert ridge(x, torch.ones(len(x), 2), 0.0).isfinite().all()


def test_the_loss_is_equation_4() -> None:
    rng = np.random.default_rng(0)
    anchors, positive, negative = (rng.standard_normal((n, 4)) for n in (5, 7, 6))
    costs = [
        min(sum((a - p) ** 2) for p in positive) / (min(sum((a - n) ** 2) for n in negative) + 0.3)
        for a in anchors
    ]
    found = pull_and_push(*map(torch.from_numpy, (anchors, positive, negative)), 0.3)
    assert float(found) == pytest.approx(np.mean(costs), rel=1e-6)


def fields(**given: object) -> STRNNFields:
    small = {
        "backbone": "shufflenet_v2_x0_5",
        "weights": "none",
        "second": "resnet18",
        "second_weights": "none",
        "hidden": 8,
        "channels": 12,
        "bn": "clip",
    }
    return STRNNFields(**{**small, **given})  # type: ignore[arg-type]


def network(**given: object) -> STRNN:
    torch.manual_seed(0)
    made = STRNN(fields(**given)).eval()
    for layer in made.context:
        if isinstance(layer, SpatioTemporalRNN) and layer.time is not None:
            torch.nn.init.normal_(layer.time, std=0.1)
    return made


def test_the_second_part_leaves_the_backbone_as_it_is() -> None:
    stages = (PartStage(epochs=1, part="spatial"), PartStage(epochs=1, part="spatio_temporal"))
    made = network(ensemble=True)
    module = FeatureTraining(made, MetricTraining(stages=stages), Optimisation()).train()
    torch.manual_seed(1)
    labels = torch.zeros(2, 3, *SIZE, dtype=torch.uint8)
    labels[:, :, 8:30, 10:40] = 1
    clip = Clip(torch.randn(2, 3, 3, *SIZE), labels, torch.ones(2, 3, 10))
    for stage in (0, 1):
        module.zero_grad()
        module.stage_at = lambda _, stage=stage: stage  # type: ignore[method-assign]
        before = {k: v.clone() for k, v in made.state_dict().items()}
        module.clip_loss(clip, 0).backward()
        learns = {name for name, p in made.named_parameters() if p.grad is not None and p.grad.any()}
        moved = {k for k, v in made.state_dict().items() if not torch.equal(before[k], v)}
        assert any(name.startswith("encoder.1.") for name in learns) == (stage == 0)
        assert any(name.endswith(".time") for name in learns) == (stage == 1)
        assert any("running_mean" in k for k in moved) == (stage == 0)


@pytest.fixture
def video(tmp_path: Path) -> Video:
    """Nine noisy frames with a bright object that wanders, and one that is dark."""
    frames = [frame // 4 + 90 for frame in noise(9, SIZE)]
    for t, frame in enumerate(frames):
        frame[8:22, 6 + 3 * t : 24 + 3 * t, 0] = 250
        frame[26:38, 10:30, 2] = 10
    return written(tmp_path / "video", frames, {0: boxes((1, 8, 6, 14, 18), (2, 26, 10, 12, 20), size=SIZE)})


def line(number: int, *points: tuple[int, int]) -> Scribble:
    """A scribble through pixels (row, column)."""
    return Scribble(np.array([(x / (SIZE[1] - 1), y / (SIZE[0] - 1)) for y, x in points]), number)


BOTH = (line(1, (15, 8), (15, 22)), line(2, (32, 12), (32, 28)))


def session(video: Video, **given: object) -> ScribbleSession:
    return ScribbleSession(network(**given), ScribblePrediction(), (64, 96), 10, "cpu", video)


def test_scribbles_on_one_frame_find_the_objects_in_all(video: Video) -> None:
    masks = session(video, level="res2").answer(Interaction(0, BOTH))
    assert masks.shape == (9, *SIZE) and masks.dtype == np.uint8 and set(np.unique(masks)) == {0, 1, 2}
    for t in range(9):
        middle = masks[t, 11:19, 10 + 3 * t : 20 + 3 * t]
        assert (middle == 1).mean() > 0.8 and (masks[t, 29:35, 14:26] == 2).mean() > 0.8


def test_undo_brings_back_what_was_there(video: Video) -> None:
    asked = session(video, ensemble=True)
    seen = [asked.answer(Interaction(0, BOTH)).copy()]
    for t, scribble in ((8, line(1, (15, 35), (15, 45))), (4, line(0, (2, 2), (2, 60)))):
        seen.append(asked.answer(Interaction(t, (scribble,))).copy())
    assert any((a != b).any() for a, b in pairwise(seen))
    for masks in reversed(seen[:-1]):
        np.testing.assert_array_equal(asked.undo(), masks)
    assert not asked.undo().any() and not asked.undo().any()


@pytest.mark.parametrize(
    "scribbles",
    [
        (),
        (line(0, (3, 3), (3, 9)),),
        (line(1, (3, 3)),),
        (Scribble(np.array([(0.0, 0.0), (1.0, 1.0), (1.0, 0.0), (0.0, 1.0)]), 1),),
        (line(1, (5, 5), (5, 20)), line(2, (5, 5), (5, 20))),
    ],
    ids=["none", "background alone", "a point", "all over the frame", "one on the other"],
)
def test_one_sided_scribbles_give_masks(video: Video, scribbles: tuple[Scribble, ...]) -> None:
    masks = session(video).answer(Interaction(2, scribbles))
    assert masks.shape == (9, *SIZE) and set(np.unique(masks)) <= {0, *(s.id for s in scribbles)}


def test_samples_are_those_of_section_2_3(video: Video) -> None:
    asked = session(video, level="res2")
    size, margin = (64, 96), 1.2
    rounds = [
        (0, BOTH),
        (8, (line(1, (15, 35), (15, 45)), line(0, (2, 2), (2, 9)))),
        (8, (line(2, (30, 12), (36, 28)),)),
    ]
    before = np.zeros((9, *SIZE), np.uint8)
    counts = np.zeros(2, int)
    for number, (t, scribbles) in enumerate(rounds):
        masks = asked.answer(Interaction(t, scribbles)).copy()
        samples = asked.samples[-1]
        ids = np.full(size, -1)
        ids[samples.pixels] = samples.ids
        drawn = scribbled_ids(scribbles, size)
        np.testing.assert_array_equal(ids[drawn >= 0], drawn[drawn >= 0])
        rows, columns = np.nonzero(samples.pixels & (drawn < 0))
        assert len(rows) and (ids[rows, columns] == 0).all()
        for scribble in scribbles:
            low, high = scribble.path.min(0) * (95, 63), scribble.path.max(0) * (95, 63)
            far = np.abs(np.stack([columns, rows], 1) - (low + high) / 2) - margin * (high - low) / 2
            assert (far.max(1) > 0).all()
        assert not np.asarray(resize_labels(before[t], size))[rows, columns].any()
        if number == 2:
            assert not asked.samples[1].drawn[rows, columns].any()
        counts += (samples.ids > 0).sum(), (samples.ids == 0).sum()
        assert counts[0] == counts[1]
        before = masks


def test_two_networks_vote_by_their_mean_scores(video: Video) -> None:
    both = session(video, ensemble=True, level="res2")
    masks = both.answer(Interaction(0, BOTH))
    (samples,) = both.samples
    scores = []
    for maps, x in zip(both.features, samples.features, strict=True):
        truth = torch.nn.functional.one_hot(samples.ids, 3).double()
        gram = x.double().T @ x.double() + torch.eye(x.shape[1])
        layer = torch.linalg.solve(gram, x.double().T @ truth).float()
        found = torch.einsum("tchw,ck->tkhw", maps, layer)
        scores.append(torch.nn.functional.interpolate(found, SIZE, mode="bilinear"))
    assert (torch.stack(scores).mean(0).argmax(1).numpy() != masks).mean() < 1e-3
    assert all((score.argmax(1).numpy() != masks).mean() > 1e-3 for score in scores)


def test_the_loss_does_not_lose_small_distances_in_mixed_precision() -> None:
    rng = torch.Generator().manual_seed(0)
    middle = 10 * torch.randn(16, generator=rng)
    parts = [(middle + 0.1 * torch.randn(n, 16, generator=rng)) for n in (5, 7, 6)]
    with torch.autocast("cpu", torch.bfloat16):
        found = pull_and_push(*parts, 1e-6)
    truth = pull_and_push(*(part.double() for part in parts), 1e-6)
    assert float(found) == pytest.approx(float(truth), rel=1e-3)


def test_a_refused_interaction_changes_nothing(video: Video) -> None:
    asked = session(video)
    masks = asked.answer(Interaction(0, BOTH))
    with pytest.raises(InputError, match="frame 9: video has frames 0 to 8"):
        asked.answer(Interaction(9, BOTH))
    with pytest.raises(InputError, match=r"object 11: exceeds model\.slots=10"):
        asked.answer(Interaction(0, (line(11, (1, 1)),)))
    np.testing.assert_array_equal(asked.undo(), np.zeros_like(masks))


def test_features_along_a_video_are_those_of_a_clip(video: Video) -> None:
    made = network()
    frames = [video.frame(t) for t in range(9)]
    with torch.inference_mode():
        (streamed,) = zip(*features_of(made, iter(frames), (64, 96), "cpu"), strict=True)
        (whole,) = made(made.encode(to_network(frames, (64, 96))[None]), temporal=True)
    torch.testing.assert_close(torch.cat(streamed), whole[0], atol=1e-4, rtol=1e-4)
