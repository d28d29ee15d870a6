"""Names of videos, frames and videos: one part of a path, or refused in a sentence at every door."""

import json
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from vos_lightning.apps.predict import main as predict
from vos_lightning.apps.score import main as score
from vos_lightning.data.davis import load_davis
from vos_lightning.data.examples import Windows
from vos_lightning.data.files import read_names
from vos_lightning.data.images import write_mask
from vos_lightning.data.names import checked_name
from vos_lightning.data.videos import Video
from vos_lightning.data.youtube_meta import read_meta
from vos_lightning.data.youtube_vos import load_youtube_vos
from vos_lightning.errors import InputError

EVIL = [
    "../../evil",
    "..",
    ".",
    "",
    "/etc",
    "a/b",
    "a\\..\\b",
    "a\nb",
    "a\0b",
    "a\x1b[2J",
    "n" * 256,
    "\ud800",
]


@pytest.mark.parametrize("name", EVIL)
def test_what_is_no_name_is_refused_in_one_printable_sentence(name: str) -> None:
    with pytest.raises(InputError, match=r"^list\.txt: ") as refusal:
        checked_name(name, "list.txt")
    sentence = str(refusal.value)
    assert sentence.isprintable() and len(sentence) < 250 and sentence.encode()


@pytest.mark.parametrize("name", ["bear", "0a1b2c", ".hidden", "..x", "é" * 127, "two words", "n" * 255])
def test_names_are_taken_as_they_are(name: str) -> None:
    assert checked_name(name, "list.txt") == name


def video(images: Path, masks: Path, ids: int = 1) -> None:
    """Two frames and their masks."""
    for folder in (images, masks):
        folder.mkdir(parents=True)
    for frame in ("00000", "00001"):
        Image.new("RGB", (32, 24)).save(images / f"{frame}.jpg")
        write_mask(masks / f"{frame}.png", np.full((24, 32), ids, np.uint8))


@pytest.mark.parametrize(
    ("year", "line"),
    [
        (2017, "../../evil"),
        (2017, ".."),
        (2016, "/JPEGImages/480p/../00000.jpg x"),
        (2016, "../../evil/0.jpg x"),
    ],
)
def test_a_split_list_stays_in_its_tree(tmp_path: Path, year: int, line: str) -> None:
    root = tmp_path / "a" / "b"
    video(root / "JPEGImages/480p/good", root / "Annotations/480p/good")
    video(tmp_path / "evil", tmp_path / "evilmasks")
    (root / f"ImageSets/{year}").mkdir(parents=True)
    split = root / f"ImageSets/{year}/val.txt"
    split.write_text(f"good\n{line}\n")
    with pytest.raises(InputError, match=r"val\.txt: "):
        load_davis(root, "val", year)
    assert score([f"{root}/Annotations/480p", f"{root}/Annotations/480p", "--split-list", str(split)]) == 2
    split.write_text("\ufeffgood\r\n/JPEGImages/480p/good/00000.jpg /Annotations/480p/good/00000.png\n")
    assert read_names(split) == ["good"]


def meta(name: str, frame: str = "00000") -> str:
    return json.dumps({"videos": {name: {"objects": {"1": {"category": "cat", "frames": [frame]}}}}})


@pytest.mark.parametrize("name", EVIL)
def test_a_meta_json_names_no_places(name: str) -> None:
    for content in (meta(name), meta("good", name)):
        with pytest.raises(InputError, match=r"^meta\.json"):
            read_meta(content.encode(), "meta.json")


def test_predicted_masks_stay_in_their_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A video that is called ../../evil is refused before anything is predicted."""
    experiment = SimpleNamespace(
        model=SimpleNamespace(examples=Windows), prediction=SimpleNamespace(partner=None)
    )
    monkeypatch.setattr("vos_lightning.runs.load.load_run", lambda *_: (experiment, None))
    root = tmp_path / "a" / "b"
    video(root / "valid/JPEGImages/good", root / "valid/Annotations/good")
    video(root / "evil", root / "valid/evil")  # where the name leads
    (root / "valid/meta.json").write_text(meta("../../evil"))
    before = sorted(tmp_path.rglob("*"))
    for source in (["--root", str(root), "--split", "valid"], ["--frames", "/"]):
        with pytest.raises(SystemExit) as stop:
            predict([str(tmp_path / "none.ckpt"), str(tmp_path / "out"), *source])
        assert stop.value.code == 2
    assert "meta.json: " in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "member", ["valid/JPEGImages/good/..\\..\\x.jpg", "valid/JPEGImages/../evil/0.jpg", "/x.jpg"]
)
def test_members_of_a_zip_stay_in_it(tmp_path: Path, member: str) -> None:
    with zipfile.ZipFile(tmp_path / "valid.zip", "w") as archive:
        archive.writestr("valid/meta.json", meta("good"))
        for path in ("JPEGImages/good/00000.jpg", "Annotations/good/00000.png"):
            archive.writestr(f"valid/{path}", b"")
        archive.writestr(member, b"")
    with pytest.raises(InputError, match=r"valid\.zip: "):
        load_youtube_vos(tmp_path, "valid", first_mask_only=True)


def test_no_sequence_has_a_name_that_leads_elsewhere() -> None:
    with pytest.raises(InputError, match=r"^x/0\.jpg: "):
        Video("../evil", (Path("x/0.jpg"),), (None,))
