"""Models by name, behind one small interface; their preprocessing and their costs."""

from pilotfish.models.load import list_models, load_model
from pilotfish.models.model import Backend, Model
from pilotfish.models.preprocessing import Preprocessing
from pilotfish.models.spec import FORMS, VARIANTS, ModelSpec, parse_spec

__all__ = [
    "FORMS",
    "VARIANTS",
    "Backend",
    "Model",
    "ModelSpec",
    "Preprocessing",
    "list_models",
    "load_model",
    "parse_spec",
]
