"""The models, by the name that `model.architecture` gives."""

from importlib.metadata import entry_points

from vos_lightning.configuration import MODELS_GROUP
from vos_lightning.errors import InputError
from vos_lightning.models.interface import Model
from vos_lightning.models.rvos.model import MODEL as RVOS
from vos_lightning.models.s2s.model import MODEL as S2S

MODELS: dict[str, Model] = {"rvos": RVOS, "s2s": S2S}


def model_named(name: str) -> Model:
    """A model of the catalogue or of an installed package. Raises InputError for a name that is none."""
    outside = entry_points(group=MODELS_GROUP)
    known = [*MODELS, *outside.names]
    if name in MODELS:
        return MODELS[name]
    if name in outside.names:
        return outside[name].load()
    raise InputError(f"model.architecture={name}: unknown; choose one of {', '.join(known)}.")


def all_models() -> dict[str, Model]:
    """Every model there is."""
    return MODELS | {point.name: point.load() for point in entry_points(group=MODELS_GROUP)}
