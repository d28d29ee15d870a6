"""The models, by the name that `model.architecture` gives."""

from importlib.metadata import EntryPoint, entry_points

from vos_lightning.configuration import MODELS_GROUP
from vos_lightning.errors import InputError
from vos_lightning.models.interface import Model
from vos_lightning.models.ris.model import MODEL as RIS
from vos_lightning.models.rsis.model import MODEL as RSIS
from vos_lightning.models.rvos.model import MODEL as RVOS
from vos_lightning.models.s2s.model import MODEL as S2S
from vos_lightning.models.strnn.model import MODEL as STRNN

MODELS: dict[str, Model] = {"rvos": RVOS, "s2s": S2S, "rsis": RSIS, "ris": RIS, "strnn": STRNN}


def model_named(name: str) -> Model:
    """A model of the catalogue or of an installed package. Raises InputError for a name that is none."""
    if name in MODELS:
        return MODELS[name]
    outside = {point.name: point for point in entry_points(group=MODELS_GROUP)}
    if name not in outside:
        known = ", ".join([*MODELS, *outside])
        raise InputError(f"model.architecture={name}: unknown; choose one of {known}.")
    return _loaded(outside[name])


def all_models() -> dict[str, Model]:
    """Every model there is. Raises InputError for one of a package that cannot be imported."""
    return {point.name: _loaded(point) for point in entry_points(group=MODELS_GROUP)} | MODELS


def _loaded(point: EntryPoint) -> Model:
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"{point.value}: the model {point.name} cannot be imported ({error}); mend its package."
        ) from error
