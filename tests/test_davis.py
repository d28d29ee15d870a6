"""DAVIS trees in the forms found in the wild, made here pixel by pixel."""

import numpy as np
import pytest
from PIL import Image

from helpers import columns
from vos_lightning.data.clips import ClipDataset, check_readable
from vos_lightning.data.davis import load_davis
from vos_lightning.data.images import read_mask, voc_palette, write_mask
from vos_lightning.errors import InputError

HEIGHT, WIDTH, FRAMES = 24, 46, 4


def tree(root, masks, lists, resolution="480p", name="seq"):
    """Writes one video; masks: file index -> image."""
    frames, annotations = (root / kind / resolution / name for kind in ("JPEGImages", "Annotations"))
    frames.mkdir(parents=True)
    annotations.mkdir(parents=True)
    for t in range(FRAMES):
        Image.new("RGB", (WIDTH, HEIGHT), (9 * t, 0, 0)).save(frames / f"{t:05d}.jpg")
    for t, image in masks.items():
        image.save(annotations / f"{t:05d}.png")
    for path, text in lists.items():
        (root / "ImageSets" / path).parent.mkdir(parents=True, exist_ok=True)
        (root / "ImageSets" / path).write_text(text)
    return root


def drawn(mode, *values):
    """A mask whose columns hold the values in turn."""
    ids = columns(*values, size=(HEIGHT, WIDTH))
    if mode == "LA":
        return Image.merge("LA", [Image.fromarray(ids), Image.new("L", (WIDTH, HEIGHT), 255)])
    image = Image.fromarray(ids)
    if mode == "P":
        image.putpalette(voc_palette())
    return image


@pytest.mark.parametrize("mode", ["P", "L", "LA"])
def test_ids_and_void_are_read_in_every_mode(tmp_path, mode):
    masks = {t: drawn(mode, 0, 1, 2, 255) for t in range(FRAMES)}
    video = load_davis(tree(tmp_path, masks, {"2017/val.txt": "seq\n"}), "val")[0]
    assert video.objects == (1, 2)
    assert set(np.unique(video.mask(1))) == {0, 1, 2, 255}
    assert video.mask(0).shape == (HEIGHT, WIDTH) == video.frame(0).shape[:2]


@pytest.mark.parametrize("mode", ["P", "L", "LA"])
def test_a_video_of_0_and_255_alone_is_one_object(tmp_path, mode):
    masks = {t: drawn(mode, 0, 255) for t in range(FRAMES)}
    video = load_davis(tree(tmp_path, masks, {"2017/val.txt": "seq\n"}), "val")[0]
    assert video.objects == (1,)
    assert set(np.unique(video.mask(2))) == {0, 1}


def test_255_beside_an_id_in_any_frame_is_void(tmp_path):
    masks = {t: drawn("L", 0, 255) for t in range(FRAMES)} | {3: drawn("L", 0, 1, 255)}
    video = load_davis(tree(tmp_path, masks, {"2017/val.txt": "seq\n"}), "val")[0]
    assert video.objects == ()
    assert 255 in video.mask(0)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("2016/val.txt", "seq\n"),
        (
            "480p/val.txt",
            "".join(f"/JPEGImages/480p/seq/{t}.jpg /Annotations/480p/seq/{t}.png\n" for t in "01"),
        ),
    ],
)
def test_davis_2016_lists_hold_names_or_pairs_of_paths(tmp_path, path, text):
    masks = {t: drawn("L", 0, 255) for t in range(FRAMES)}
    videos = load_davis(tree(tmp_path, masks, {path: text}), "val", year=2016)
    assert [(s.name, len(s)) for s in videos] == [("seq", FRAMES)]


def test_davis_2016_is_one_object_whatever_the_ids(tmp_path):
    masks = {t: drawn("P", 0, 1, 2, 255) for t in range(FRAMES)}
    video = load_davis(tree(tmp_path, masks, {"2016/val.txt": "seq\n"}), "val", year=2016)[0]
    assert video.objects == (1,)
    assert (video.mask(0)[0, :4] == [0, 1, 1, 255]).all()


def test_test_splits_need_first_masks_only(tmp_path):
    root = tree(tmp_path, {0: drawn("P", 0, 1)}, {"2017/test-dev.txt": "seq\n"}, "Full-Resolution")
    video = load_davis(root, "test-dev", resolution="Full-Resolution", first_mask_only=True)[0]
    assert video.masks[1:] == (None,) * (FRAMES - 1)
    with pytest.raises(InputError, match=r"00001\.png: no such file; video seq"):
        load_davis(root, "test-dev", resolution="Full-Resolution")
    with pytest.raises(InputError, match="has no mask for this frame"):
        video.mask(1)


def test_faults_of_a_tree_are_named(tmp_path):
    with pytest.raises(InputError, match="nowhere: no such folder"):
        load_davis(tmp_path / "nowhere", "val")
    root = tree(tmp_path / "a", {}, {"2017/val.txt": "seq\n"})
    with pytest.raises(InputError, match=r"val2\.txt: no such file"):
        load_davis(root, "val2")
    with pytest.raises(InputError, match="video seq has no first mask"):
        load_davis(root, "val")
    (root / "ImageSets/2017/val.txt").write_text("other\n")
    with pytest.raises(InputError, match="other: no JPEG frames"):
        load_davis(root, "val")


def test_faults_of_files_are_named(tmp_path):
    masks = {t: drawn("P", 0, 1) for t in range(FRAMES)}
    root = tree(tmp_path, masks, {"2017/val.txt": "seq\n"})
    videos = load_davis(root, "val")
    check_readable(videos, slots=1)

    small = root / "Annotations/480p/seq/00002.png"
    write_mask(small, np.zeros((4, 4), np.uint8))
    with pytest.raises(InputError, match=r"00002\.png: mask of 4x4 pixels for a frame of 46x24"):
        check_readable(videos, slots=1)
    masks[2].save(small)

    frame = root / "JPEGImages/480p/seq/00003.jpg"
    frame.write_bytes(frame.read_bytes()[:200])
    with pytest.raises(InputError, match=r"00003\.jpg: not a readable image"):
        check_readable(videos, slots=1)

    drawn("P", 0, 3).save(root / "Annotations/480p/seq/00000.png")
    with pytest.raises(InputError, match=r"00000\.png: object id 3 of video seq exceeds model\.slots=2"):
        ClipDataset(load_davis(root, "val"), (32, 64), 2, slots=2, augmentation=None, seed=0)


def test_masks_are_written_indexed_with_the_palette_of_pascal_voc(tmp_path):
    ids = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH)
    write_mask(tmp_path / "mask.png", ids)
    assert (read_mask(tmp_path / "mask.png") == ids).all()
    image = Image.open(tmp_path / "mask.png")
    assert image.mode == "P"
    # The first colours as published with Pascal VOC.
    known = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128)]
    assert [tuple(image.convert("RGB").getpixel((i, 0))) for i in range(7)] == known
