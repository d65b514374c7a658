"""pytest puts the folder of this file on the path: tests import their helpers from ``support``."""
