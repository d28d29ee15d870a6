"""Files of scribbles and the pixels that they cover."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vos_lightning.configuration import compose_train
from vos_lightning.data.davis import load_davis
from vos_lightning.data.images import write_mask
from vos_lightning.data.scribbles import (
    Scribble,
    ScribbleFile,
    read_scribbles,
    scribbled_ids,
    write_scribbles,
)
from vos_lightning.errors import InputError
from vos_lightning.runs.run import Run
from vos_lightning.runs.settings import read_settings
from vos_lightning.runs.train import train

LINE = {"path": [[0.0, 0.5], [1, 0.25]], "object_id": 1, "start_time": 0, "end_time": 2.5}


def published(**other: object) -> dict[str, object]:
    """What a file of three frames holds, of which the second is drawn on."""
    return {"scribbles": [[], [LINE], []], "sequence": "bear", **other}


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = np.random.default_rng(0).random((20, 2))
    drawn = ScribbleFile("bear", ((), (Scribble(path, 0, 1.5, 2.0), Scribble(path[:1], 254))), annotated=1)
    write_scribbles(tmp_path / "a.json", drawn)
    found = read_scribbles(tmp_path / "a.json", frames=2)
    assert (found.video, found.annotated, found.frames) == ("bear", 1, (1,))
    for before, after in zip(drawn.scribbles[1], found.scribbles[1], strict=True):
        np.testing.assert_array_equal(before.path, after.path)
        assert (before.id, before.start, before.end) == (after.id, after.start, after.end)
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def line(**other: object) -> dict[str, object]:
    """A file whose one line differs."""
    return published(scribbles=[[], [LINE | other], []])


BAD = {
    "no-json": b"{",
    "deep": b"[" * 100_000,
    "a-list": b"[]",
    "huge": b" " * (2**24 + 1),
    "nan": json.dumps(line(path=[[float("nan"), 0]])).encode(),
    "outside": line(path=[[0, 1.001]]),
    "negative": line(path=[[-1e-9, 0]]),
    "text": line(path=[["0", 0]]),
    "three": line(path=[[0, 0, 0]]),
    "no-point": line(path=[]),
    "truth": line(path=[[True, 0]]),
    "void": line(object_id=255),
    "below": line(object_id=-1),
    "real-id": line(object_id=1.5),
    "no-id": line(object_id=None),
    "time": line(start_time="now"),
    "no-line": published(scribbles=[[], [3], []]),
    "no-lists": published(scribbles=[[], {}, []]),
    "no-scribble": published(scribbles=[[], [], []]),
    "two-frames": published(scribbles=[[LINE], []]),
    "no-name": published(sequence=None),
    "path-as-name": published(sequence="../bear"),
    "annotated": published(annotated_frame=0),
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD.keys())
def test_a_file_that_is_not_right_is_refused_in_a_sentence(tmp_path: Path, content: object) -> None:
    path = tmp_path / "001.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(InputError, match=r"001\.json: .+\.$") as caught:
        read_scribbles(path, frames=3)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def slow_line(x0: int, y0: int, x1: int, y1: int) -> set[tuple[int, int]]:
    """Bresenham's algorithm as it is taught, with its running error."""
    dx, dy = abs(x1 - x0), abs(y1 - y0)
    sx, sy = (1 if x1 > x0 else -1), (1 if y1 > y0 else -1)
    steep = dx <= dy
    if steep:
        dx, dy = dy, dx
    found, error = set(), 2 * dy - dx
    x, y = x0, y0
    for _ in range(dx + 1):
        found.add((x, y))
        if error >= 0:
            x, y = (x + sx, y) if steep else (x, y + sy)
            error -= 2 * dx
        error += 2 * dy
        x, y = (x, y + sy) if steep else (x + sx, y)
    return found


def test_lines_are_bresenham_s_and_later_ones_lie_on_top() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        height, width = rng.integers(1, 60, 2)
        scribbles = [Scribble(rng.random((rng.integers(1, 6), 2)), int(i)) for i in rng.integers(0, 255, 3)]
        expected = np.full((height, width), -1)
        for scribble in scribbles:
            points = [(int(x * (width - 1)), int(y * (height - 1))) for x, y in scribble.path]
            for a, b in zip(points, points[1:] or points, strict=False):
                for x, y in slow_line(*a, *b):
                    expected[y, x] = scribble.id
        np.testing.assert_array_equal(scribbled_ids(scribbles, (height, width)), expected)
    assert (scribbled_ids([], (3, 4)) == -1).all()


def davis_tree(folder: Path) -> None:
    """A tree of one video of three frames, in both splits."""
    for kind in ("JPEGImages", "Annotations"):
        (folder / kind / "480p" / "bear").mkdir(parents=True)
    for t in range(3):
        Image.new("RGB", (8, 6)).save(folder / f"JPEGImages/480p/bear/{t:05d}.jpg")
        write_mask(folder / f"Annotations/480p/bear/{t:05d}.png", np.eye(6, 8, dtype=np.uint8))
    for year in (2016, 2017):
        (folder / f"ImageSets/{year}").mkdir(parents=True)
        for split in ("train", "val"):
            (folder / f"ImageSets/{year}/{split}.txt").write_text("bear")


def publish(tree: Path, name: str, **other: object) -> None:
    """Adds a file of scribbles to a tree."""
    (tree / "Scribbles/bear").mkdir(parents=True, exist_ok=True)
    (tree / "Scribbles/bear" / name).write_text(json.dumps(published(**other)))


def test_davis_2017_has_its_published_scribbles(tmp_path: Path) -> None:
    davis_tree(tmp_path)
    (before,) = load_davis(tmp_path, "val")
    for name in ("002.json", "001.json"):
        publish(tmp_path, name)
    (video,) = load_davis(tmp_path, "val")
    assert [file.name for file in video.scribbles] == ["001.json", "002.json"]
    assert video.described() == before.described() and video.sources() == before.sources()
    assert load_davis(tmp_path, "val", 2016)[0].scribbles == ()


def test_published_scribbles_decide_scores_in_rounds_alone_and_are_read_before_a_training(
    tmp_path: Path,
) -> None:
    davis_tree(tmp_path / "tree")
    common = ["data=davis2017", "scale=embedded", f"data.root={tmp_path}/tree", "data.clip_length=2"]
    common += ["data.size=[32,32]", "train.stages=[{epochs: 1}]", "model.hidden=16", "run.threads=1"]
    common += [f"run.root={tmp_path}/runs", "run.frame_cache=null"]

    def runs() -> list[Run]:
        models = ("model=strnn", "model=rvos")
        return [Run.of(read_settings(compose_train([model, *common]))) for model in models]

    before = runs()
    publish(tmp_path / "tree", "001.json")
    after = runs()
    assert [run.training.hash for run in after] == [run.training.hash for run in before]
    assert after[0].evaluation.hash != before[0].evaluation.hash
    assert after[1].evaluation.hash == before[1].evaluation.hash
    publish(tmp_path / "tree", "002.json", scribbles=line(object_id=9)["scribbles"])
    with pytest.raises(InputError, match=r"002\.json: object 9"):
        train(compose_train(["model=strnn", *common]))
    assert not (tmp_path / "runs").exists()
