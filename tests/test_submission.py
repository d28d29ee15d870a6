"""Zips of masks: a round trip in each layout, and what is refused."""

import zipfile
from functools import partial
from io import BytesIO

import pytest
from PIL import Image

from helpers import columns
from vos_lightning.data.images import read_mask, write_mask
from vos_lightning.data.videos import Video
from vos_lightning.errors import InputError
from vos_lightning.scoring.submission import DAVIS, DAVIS_UNSUPERVISED, YOUTUBE_VOS, server_layout, zip_masks

HEIGHT, WIDTH, FRAMES = 12, 20, 7
ids = partial(columns, size=(HEIGHT, WIDTH))


@pytest.fixture
def videos(tmp_path):
    """A video of DAVIS and one of YouTube-VOS, objects 1 and 3, each with predictions in tmp_path/masks."""
    made = []
    for name, presence in (("davis", None), ("youtube", {1: (0, 3), 3: (3, 6)})):
        frames = tuple(tmp_path / "frames" / name / f"{t:05d}.jpg" for t in range(FRAMES))
        first = tmp_path / "truth" / name / "00000.png"
        for folder in (frames[0].parent, first.parent, tmp_path / "masks" / name):
            folder.mkdir(parents=True)
        for frame in frames:
            Image.new("RGB", (WIDTH, HEIGHT)).save(frame)
            write_mask(tmp_path / "masks" / name / f"{frame.stem}.png", ids(0, 1, 3))
        write_mask(first, ids(0, 1, 3))
        masks, categories = (first, *[None] * (FRAMES - 1)), presence and {1: "cat", 3: "dog"}
        made.append(Video(name, frames, masks, presence=presence, categories=categories))
    return made


@pytest.mark.parametrize(
    ("video", "given", "top", "frames"),
    [(0, True, "davis/", range(FRAMES)), (1, True, "Annotations/youtube/", (0, 3, 6))],
)
def test_round_trip(videos, tmp_path, video, given, top, frames):
    chosen = [videos[video]]
    archive = zip_masks(tmp_path / "masks", tmp_path / "out.zip", chosen, server_layout(chosen, given))
    with zipfile.ZipFile(archive) as file:
        assert file.namelist() == [f"{top}{t:05d}.png" for t in frames]
        for name in file.namelist():
            content = file.read(name)
            assert (read_mask(archive, content) == ids(0, 1, 3)).all()
            assert Image.open(BytesIO(content)).mode == "P"
    assert not list(tmp_path.glob("*.partial"))


def test_a_method_without_first_masks_names_its_own_objects(videos, tmp_path):
    davis, archive = videos[:1], tmp_path / "out.zip"
    write_mask(tmp_path / "masks/davis/00004.png", ids(0, 20))
    layout = server_layout(davis, masks_given=False)
    assert layout == DAVIS_UNSUPERVISED
    assert zip_masks(tmp_path / "masks", archive, davis, layout).is_file()
    write_mask(tmp_path / "masks/davis/00004.png", ids(0, 21))
    with pytest.raises(InputError, match=r"00004\.png: id 21 is not one of those allowed"):
        zip_masks(tmp_path / "masks", archive, davis, layout)


@pytest.mark.parametrize(("video", "layout"), [(0, DAVIS), (1, YOUTUBE_VOS)])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), r"00003\.png: no such file; the server asks"),
        (
            lambda path: write_mask(path, ids(0)[:5]),
            r"00003\.png: the mask must be 20x12 not 20x5 as 00003\.jpg",
        ),
        (lambda path: write_mask(path, ids(0, 2)), r"00003\.png: id 2 is not one of those allowed \(1, 3\)"),
        (lambda path: write_mask(path, ids(0, 255)), r"00003\.png: id 255 is not one of those"),
        (lambda path: path.write_bytes(b"no"), r"00003\.png: not a readable image"),
    ],
)
def test_refusals_leave_no_file(videos, tmp_path, video, layout, spoil, message):
    spoil(tmp_path / "masks" / videos[video].name / "00003.png")
    archive = tmp_path / "out.zip"
    archive.write_text("earlier")
    with pytest.raises(InputError, match=message):
        zip_masks(tmp_path / "masks", archive, [videos[video]], layout)
    assert archive.read_text() == "earlier" and not list(tmp_path.glob("*.partial"))
