"""pytest puts the folder of this file on the path, so tests import their helpers from ``support``."""

from hypothesis import settings

settings.register_profile("pilotfish", deadline=None, max_examples=60)  # a busy machine is no failure
settings.load_profile("pilotfish")
