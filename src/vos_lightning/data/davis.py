"""Reads DAVIS-2016 and DAVIS-2017 in their public trees into videos.

Shapes: T frames of H x W pixels. Object ids are 1, 2, ...; 0 is background, 255 void.

    ROOT/JPEGImages/480p/VIDEO/00000.jpg    ROOT/Annotations/480p/VIDEO/00000.png
    ROOT/ImageSets/2017/{train,val,test-dev,test-challenge}.txt       names
    ROOT/ImageSets/2016/{train,val}.txt                               names
    ROOT/ImageSets/480p/{train,val}.txt                               pairs of paths (DAVIS-2016)
    ROOT/Scribbles/VIDEO/001.json                                     first scribbles (DAVIS-2017), if any
"""

from pathlib import Path

from vos_lightning.data.files import list_folder, read_names, reading
from vos_lightning.data.videos import Video
from vos_lightning.errors import InputError


def _split_names(root: Path, year: int, split: str) -> list[str]:
    lists = [root / "ImageSets" / str(year) / f"{split}.txt"]
    if year == 2016:
        lists.append(root / "ImageSets" / "480p" / f"{split}.txt")
    for path in lists:
        if path.is_file():
            return read_names(path)
    raise InputError(
        f"{lists[0]}: no such file; data.root must be a DAVIS tree and data split one of its lists."
    )


@reading()
def load_davis(
    root: Path, split: str, year: int = 2017, resolution: str = "480p", first_mask_only: bool = False
) -> list[Video]:
    """Lists the videos of a split; images are not opened.

    Args:
        root: the DAVIS tree.
        split: train, val, test-dev, test-challenge, or any other list there.
        year: 2016 or 2017, of which the list is read.
        resolution: folder below JPEGImages and Annotations: 480p or Full-Resolution.
        first_mask_only: accepts videos that have a mask for frame 0 alone, as those of the test splits.

    Raises:
        InputError: the root, a video's folder or a mask is missing, or `read_names` refuses the list.
    """
    if not root.is_dir():
        raise InputError(
            f"{root}: no such folder; set data.root to the DAVIS tree (the folder of JPEGImages)."
        )
    return [
        _load_video(root, resolution, name, first_mask_only, year == 2016)
        for name in _split_names(root, year, split)
    ]


def _load_video(root: Path, resolution: str, name: str, first_mask_only: bool, one_object: bool) -> Video:
    folder = root / "JPEGImages" / resolution / name
    frames = tuple(list_folder(folder, ".jpg").values())
    if not frames:
        raise InputError(f"{folder}: no JPEG frames; the split list names video {name}.")
    annotations = root / "Annotations" / resolution / name
    found = list_folder(annotations, ".png")
    masks = tuple(found.get(frame.stem) for frame in frames)
    if masks[0] is None:
        raise InputError(f"{annotations / frames[0].stem}.png: no such file; video {name} has no first mask.")
    if not first_mask_only and None in masks:
        missing = frames[masks.index(None)].stem
        raise InputError(f"{annotations / missing}.png: no such file; video {name} needs a mask a frame.")
    drawn = () if one_object else tuple(list_folder(root / "Scribbles" / name, ".json").values())
    return Video(name, frames, masks, one_object, scribbles=drawn)
