"""A video with its masks laid over it, as a file that players show. It needs PyAV, see the extra `interact`.

Shapes: T frames of h x w pixels.
"""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from vos_lightning.atomic import replacing
from vos_lightning.data.videos import Video
from vos_lightning.evaluation.pictures import tinted

CODECS = {"libx264": {"crf": "20", "preset": "veryfast"}, "mpeg4": {"qscale": "3"}}  # the first one there


def write_overlay(
    path: Path, video: Video, masks: np.ndarray, rate: Fraction, done: Callable[[int], None] = lambda t: None
) -> None:
    """Writes an MP4 (H.264, or MPEG-4 where PyAV lacks that) of the frames with their masks tinted.

    Args:
        path: the file; it is whole or not there.
        video: the T frames.
        masks: (T, h, w) uint8 of ids. Odd h or w are filled up by one row or column, as the codecs ask.
        rate: frames a second.
        done: is told each frame that is written.

    Raises:
        InputError: a frame that cannot be read, or a file that cannot be written.
    """
    codec = next(name for name in CODECS if name in av.codecs_available)
    height, width = masks.shape[1:]
    with replacing(path, durable=False) as part, av.open(str(part), "w", format="mp4") as container:
        stream = container.add_stream(codec, rate, options=CODECS[codec])
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width, stream.pix_fmt = height + height % 2, width + width % 2, "yuv420p"
        for t, mask in enumerate(masks):
            ids = [int(i) for i in np.flatnonzero(np.bincount(mask.ravel())) if i]
            picture = tinted(video.frame(t), [mask == i for i in ids], ids)
            picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
            done(t)
        container.mux(stream.encode())
