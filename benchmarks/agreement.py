"""Finds how far bf16 masks are from fp32 ones, with a network trained on the embedded data."""

from collections.abc import Iterable
from pathlib import Path

from vos_lightning.configuration import compose_train, cores
from vos_lightning.data.videos import Video
from vos_lightning.evaluation.videos import VideoEvaluation
from vos_lightning.runs.load import load_run
from vos_lightning.runs.run import Run
from vos_lightning.runs.settings import read_settings
from vos_lightning.runs.train import train
from vos_lightning.scoring.davis import score_video, summarise


def sentence(overrides: Iterable[str] = ()) -> str:
    """Says the J&F of bf16 masks with the fp32 masks as the truth, on the clips that a run is scored on.

    The run is RVOS on the embedded data with `overrides`, trained now unless it was before.
    """
    cfg = compose_train(["model=rvos", f"run.threads={cores()}", *overrides])
    train(cfg, "RVOS on the embedded data")
    settings = read_settings(cfg)
    folder, data_set = Run.of(settings).evaluation.path, settings.experiment.data_set
    fp32, bf16 = (_evaluation(folder, precision) for precision in ("fp32", "bf16"))
    scores = [
        score_video(fp32.masks(video), bf16.masks(video), name=video.name)
        for video in data_set.samples(data_set.score_split)
        if isinstance(video, Video)
    ]
    total = summarise(scores)
    return (
        f"bf16 masks against fp32 masks, RVOS trained on the embedded data, {len(scores)} test clips: "
        f"J&F {100 * total.jf:.2f} (J {100 * total.j.mean:.2f}, F {100 * total.f.mean:.2f})."
    )


def _evaluation(folder: Path, precision: str) -> VideoEvaluation:
    experiment, network = load_run(folder, [f"predict.precision={precision}"])
    evaluation = experiment.model.evaluation(network, experiment, "cpu")
    assert isinstance(evaluation, VideoEvaluation)
    return evaluation
