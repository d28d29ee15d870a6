"""Reads SegTrackv2, JumpCut and YouTube-Objects, whose trees hold a binary mask for each object and frame.

Shapes: T frames of H x W pixels. Every video has one object, id 1; what a tree holds of several objects
becomes a video for each.

SegTrackv2 (Li et al., ICCV 2013) has 14 videos with 24 objects; O is 1, 2, ... where there are several:
    ROOT/JPEGImages/VIDEO/NAME.{png,bmp,jpg}    ROOT/GroundTruth/VIDEO/[O/]NAME.{png,bmp,jpg}
JumpCut (Fan et al., SIGGRAPH Asia 2015) has 22 videos by kind (ANIMAL, FAST, ...); RGB may have any name,
and GT any of MASK_FOLDERS:
    ROOT/KIND/VIDEO/RGB/NAME.{jpg,png,bmp}      ROOT/KIND/VIDEO/GT/NAME.{png,bmp,jpg}
YouTube-Objects with the masks of Jain and Grauman (ECCV 2014) has 126 shots, each a video here, and
every tenth frame is annotated:
    ROOT/CLASS/data/VIDEO/shots/SHOT/images/NAME.{png,jpg}    .../labels/NAME.jpg

NAME ends in the number of the frame, which pairs a mask with its frame. Masks may be grey or coloured; the
object is where they are brighter than half.
"""

import re
from dataclasses import replace
from pathlib import Path

from vos_lightning.data.files import File, reading
from vos_lightning.data.videos import Video
from vos_lightning.errors import InputError

IMAGES = (".jpg", ".jpeg", ".png", ".bmp")
MASK_FOLDERS = ("GT", "GroundTruth", "Masks", "masks", "mask")


@reading()
def load_segtrack(root: Path) -> list[Video]:
    """Lists the objects of SegTrackv2 as videos, which are named VIDEO or VIDEO-O.

    Of the images only masks are opened, up to the first that shows the object.

    Raises InputError for a folder that is missing or empty, or an object without a mask.
    """
    videos = []
    for frames in _subfolders(root / "JPEGImages", "SegTrackv2 has JPEGImages/VIDEO and GroundTruth/VIDEO"):
        masks = root / "GroundTruth" / frames.name
        objects = [p for p in sorted(masks.glob("*")) if p.is_dir()]
        videos += [_video(f"{frames.name}-{p.name}", frames, p) for p in objects]
        if not objects:
            videos.append(_video(frames.name, frames, masks))
    return videos


@reading()
def load_jumpcut(root: Path) -> list[Video]:
    """Lists the videos of JumpCut, which are named KIND-VIDEO.

    Of the images only masks are opened, up to the first that shows the object.

    Raises InputError for a folder that is missing or empty, or a video without a mask.
    """
    expected = "JumpCut has KIND/VIDEO with a folder of frames and one of masks"
    videos = []
    for kind in _subfolders(root, expected):
        for video in _subfolders(kind, expected):
            folders = _subfolders(video, expected)
            masks = [p for p in folders if p.name in MASK_FOLDERS]
            frames = [p for p in folders if p not in masks]
            if len(masks) != 1 or len(frames) != 1:
                raise InputError(
                    f"{video}: needs one folder of frames and one of masks; call that of the masks GT."
                )
            videos.append(_video(f"{kind.name}-{video.name}", frames[0], masks[0]))
    return videos


@reading()
def load_youtube_objects(root: Path) -> list[Video]:
    """Lists the annotated shots of YouTube-Objects as videos, which are named CLASS-VIDEO-SHOT.

    A video has its category. It goes from the first to the last mask and keeps the frames between them that
    have none. Of the images only masks are opened, up to the first that shows the object.

    Raises InputError for a folder that is missing or empty, or a shot without a mask.
    """
    labels = sorted(root.glob("*/data/*/shots/*/labels"))
    if not labels:
        raise InputError(
            f"{root}: no CLASS/data/VIDEO/shots/SHOT/labels there; YouTube-Objects has its masks so."
        )
    videos = []
    for masks in labels:
        category, _, video, _, shot, _ = masks.relative_to(root).parts
        name = f"{category}-{video}-{shot}"
        videos.append(_video(name, masks.parent / "images", masks, {1: category}))
    return videos


def frame_number(path: File) -> int:
    """The last number in a file's name. Raises InputError if there is none."""
    digits = re.findall(r"\d+", path.stem)
    if not digits:
        raise InputError(f"{path}: no number in the name; a frame's name must end in its number.")
    return int(digits[-1])


def _subfolders(folder: Path, expected: str) -> list[Path]:
    found = sorted(p for p in folder.glob("*") if p.is_dir() and not p.name.startswith("."))
    if not found:
        raise InputError(f"{folder}: no folders there; {expected}.")
    return found


def _numbered(folder: Path) -> dict[int, Path]:
    """The image files of a folder by their frame numbers, ascending."""
    images: dict[int, Path] = {}
    for path in sorted(folder.glob("*")):
        if path.suffix.lower() not in IMAGES:
            continue
        number = frame_number(path)
        if number in images:
            raise InputError(f"{path}: has the frame number of {images[number].name}; keep one of them.")
        images[number] = path
    if not images:
        raise InputError(f"{folder}: no images there; a video needs frames and masks.")
    return dict(sorted(images.items()))


def _video(name: str, frames: Path, masks: Path, categories: dict[int, str] | None = None) -> Video:
    """The video from the first frame whose mask shows the object to the last that has a mask."""
    images, found = _numbered(frames), _numbered(masks)
    whole = Video(
        name, tuple(images.values()), tuple(map(found.get, images)), categories=categories, luminance=True
    )
    shown = next((t for t in whole.annotated if whole.mask(t).any()), None)
    if shown is None:
        raise InputError(f"{masks}: no mask of a frame in {frames} shows an object; fetch the folder again.")
    kept = slice(shown, whole.annotated[-1] + 1)
    return replace(whole, frames=whole.frames[kept], masks=whole.masks[kept])
