"""Models by name, behind one small interface; their preprocessing and their costs."""

from pilotfish.models.model import Backend, Model
from pilotfish.models.names.known_names import list_models
from pilotfish.models.names.load_model import load_model
from pilotfish.models.names.spec import FORMS, VARIANTS, ModelSpec, parse_spec
from pilotfish.models.preprocessing import Preprocessing

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
