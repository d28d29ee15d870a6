"""Which data sets there are, by the name that a configuration gives them."""

from vos_lightning.data.image_sets import (
    Coco,
    Davis2017Frames,
    SyntheticFrames,
    SyntheticYouTubeFrames,
    Voc2012,
    YouTubeVOSFrames,
)
from vos_lightning.data.sets import (
    DataSet,
    Davis2016,
    Davis2016Extended,
    Davis2017,
    Synthetic,
    Synthetic192,
    Synthetic2016,
)
from vos_lightning.data.youtube_sets import SyntheticYouTube, YouTubeVOS
from vos_lightning.errors import InputError

DATA_SETS: dict[str, type[DataSet]] = {
    "davis2016": Davis2016,
    "davis2016_192": Davis2016Extended,
    "davis2017": Davis2017,
    "youtube_vos": YouTubeVOS,
    "synthetic": Synthetic,
    "synthetic_2016": Synthetic2016,
    "synthetic_192": Synthetic192,
    "synthetic_youtube": SyntheticYouTube,
    "davis2017_frames": Davis2017Frames,
    "youtube_vos_frames": YouTubeVOSFrames,
    "synthetic_frames": SyntheticFrames,
    "synthetic_youtube_frames": SyntheticYouTubeFrames,
    "coco": Coco,
    "voc2012": Voc2012,
}


def data_set_named(name: str) -> type[DataSet]:
    """One of DATA_SETS. Raises InputError for a name that is none."""
    if name not in DATA_SETS:
        raise InputError(f"data.name={name}: unknown; choose one of {', '.join(DATA_SETS)}.")
    return DATA_SETS[name]
