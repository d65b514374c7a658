"""pytest puts the folder of this file on the path, so tests import their helpers from ``support``."""

import os
import tempfile
from pathlib import Path

from hypothesis import settings

# exported models are shared by the tests of one user, and are not those of the user's own cache
os.environ.setdefault("PILOTFISH_CACHE", str(Path(tempfile.gettempdir()) / f"pilotfish-tests-{os.getuid()}"))

settings.register_profile("pilotfish", deadline=None, max_examples=60)  # a busy machine is no failure
settings.load_profile("pilotfish")
