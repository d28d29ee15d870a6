"""Finds how far bf16 masks are from fp32 ones, with a network trained on the embedded data."""

from collections.abc import Iterable, Iterator

import numpy as np

from vos_lightning.configuration import build_data, build_protocol, cores
from vos_lightning.data.videos import Video
from vos_lightning.evaluation.propagation import Protocol, propagate
from vos_lightning.evaluation.videos import load_run
from vos_lightning.layers.inference import for_inference
from vos_lightning.models.rvos.network import RVOS
from vos_lightning.models.s2s.network import S2S
from vos_lightning.runs.sweep import compose_train
from vos_lightning.runs.train import run_of, train
from vos_lightning.scoring.davis import score_video, summarise


def sentence(overrides: Iterable[str] = ()) -> str:
    """Says the J&F of bf16 masks with the fp32 masks as the truth, on the clips that a run is scored on.

    The run is RVOS on the embedded data with `overrides`, trained now unless it was before.
    """
    cfg = compose_train(["model=rvos", f"run.threads={cores()}", *overrides])
    train(cfg, "RVOS on the embedded data")
    _, model = load_run(run_of(cfg, build_data(cfg)).folder)
    fp32, bf16 = for_inference(model), for_inference(model, "bf16")
    scores = []
    for video in build_data(cfg).videos(cfg.data.score_split):
        truth, predicted = (_masks(ready, video, build_protocol(cfg)) for ready in (fp32, bf16))
        scores.append(score_video(truth, predicted, name=video.name))
    total = summarise(scores)
    return (
        f"bf16 masks against fp32 masks, RVOS trained on the embedded data, {len(scores)} test clips: "
        f"J&F {100 * total.jf:.2f} (J {100 * total.j.mean:.2f}, F {100 * total.f.mean:.2f})."
    )


def _masks(model: RVOS | S2S, video: Video, protocol: Protocol) -> Iterator[np.ndarray]:
    frames = (video.frame(t) for t in range(len(video)))
    return propagate(model, frames, {0: video.mask(0)}, protocol)
