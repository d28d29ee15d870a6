"""Figures: what the files hold, as far as pixels tell."""

import numpy as np
import pytest
from PIL import Image

from vos_lightning.errors import InputError
from vos_lightning.report.plots import GAP, loss_curves, overlay_sheet, position_curves

LIMITS = [b / 10 for b in range(11)]


def test_position_curves_leave_out_a_group_without_values(tmp_path):
    both = {"limits": LIMITS, "J_seen": [0.5] * 10, "J_unseen": [0.4, None] * 5}
    position_curves(tmp_path / "both.png", {"ours": both, "theirs": both})
    position_curves(tmp_path / "seen.png", {"ours": both | {"J_unseen": [None] * 10}})
    sizes = {path.stem: Image.open(path).size for path in tmp_path.iterdir()}
    assert sizes["both"] == (2 * sizes["seen"][0], sizes["seen"][1])


def test_loss_curves(tmp_path):
    steps = np.arange(200)
    loss_curves(tmp_path / "loss.png", {"base": (steps, np.exp(-steps / 50)), "short": ([1], [0.1])})
    assert np.asarray(Image.open(tmp_path / "loss.png").convert("L")).std() > 0


def test_overlay_tints_objects_outlines_them_and_leaves_the_rest(tmp_path):
    frame, mask = np.full((180, 320, 3), 100, np.uint8), np.zeros((180, 320), np.uint8)
    mask[40:80, 100:200], mask[100:120] = 2, 255
    overlay_sheet(tmp_path / "sheet.png", {"truth": [(frame, mask)] * 2, "a model": [(frame, mask)] * 2})
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape[0] == 2 * 180 + 3 * GAP
    cell = sheet[GAP : GAP + 180, -320 - GAP : -GAP]
    # 55 % of the frame's grey and 45 % of the palette's (0, 128, 0).
    assert cell[60, 150].tolist() == [55, 113, 55]
    assert (cell[60, 199] == 255).all()
    assert (cell[[0, 110, 179]] == 100).all()


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(InputError, match=r"loss\.png: cannot be written"):
        loss_curves(tmp_path / "nowhere" / "loss.png", {"base": ([0, 1], [0.5, 0.4])})
