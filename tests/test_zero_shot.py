"""Zero-shot models: two protocols, each with its own baselines."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from helpers import written
from vos_lightning.configuration import compose_train
from vos_lightning.data.sets import DataSet
from vos_lightning.data.videos import Given, Video
from vos_lightning.errors import InputError
from vos_lightning.evaluation.baselines import baselines_of
from vos_lightning.runs.settings import read_settings
from vos_lightning.scoring.rules import rules_of


def given(*overrides: str) -> tuple[DataSet, Given]:
    experiment = read_settings(compose_train(["model=rvos_zero_shot", *overrides])).experiment
    return experiment.data_set, experiment.given


def test_what_names_the_slots_decides_the_protocol_and_the_table_says_which(tmp_path: Path) -> None:
    matched, proposals = rules_of(*given()), rules_of(*given("predict.match_given=false"))
    one_shot = rules_of(given()[0], Given.MASKS)
    assert len({matched.name, proposals.name, one_shot.name}) == 3
    truth = np.zeros((40, 64), np.uint8)
    truth[10:30, 10:30] = 1
    video = written(tmp_path / "video", [np.zeros((40, 64, 3), np.uint8)] * 4, {t: truth for t in range(4)})
    said = [
        rules.summary([rules.score(video, [truth] * 4)])["protocol"]
        for rules in (one_shot, matched, proposals)
    ]
    assert said == [
        "DAVIS-2017 semi-supervised",
        "DAVIS-2017 semi-supervised, proposals matched to the first masks",
        "DAVIS-2017 unsupervised",
    ]


def test_youtube_vos_has_no_rules_for_proposals_without_masks(tmp_path: Path) -> None:
    data = ["data=synthetic_youtube", f"data.cache={tmp_path}", "data.seen_categories=[bear]"]
    assert "-matched-" in rules_of(*given(*data)).name
    with pytest.raises(InputError, match=r"predict\.match_given=true"):
        rules_of(*given(*data, "predict.match_given=false"))


def test_a_model_is_set_beside_what_is_told_as_much() -> None:
    labels = [set(baselines_of(Video, told)) for told in (Given.MASKS, Given.MATCHED, Given.NOTHING)]
    assert all(labels) and not any(a & b for a, b in permutations(labels, 2))
