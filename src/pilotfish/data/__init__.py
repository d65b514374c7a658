"""Data: from a name to labelled samples, and from an image file to pixels."""

from pilotfish.data.arrays import ArrayDataset, load_arrays
from pilotfish.data.dataset import UNLABELLED, Dataset
from pilotfish.data.digits import load_digits
from pilotfish.data.encoded import Encoded, content_hash, read_encoded, sample_reader
from pilotfish.data.image_folder import FolderDataset, image_paths, load_folder
from pilotfish.data.images import IMAGE_FORMATS, IMAGE_SUFFIXES, open_image, upright
from pilotfish.data.open_data import DATA_FORMS, load_data, open_data
from pilotfish.data.trained_on import refuse_trained_on

__all__ = [
    "DATA_FORMS",
    "IMAGE_FORMATS",
    "IMAGE_SUFFIXES",
    "UNLABELLED",
    "ArrayDataset",
    "Dataset",
    "Encoded",
    "FolderDataset",
    "content_hash",
    "image_paths",
    "load_arrays",
    "load_data",
    "load_digits",
    "load_folder",
    "open_data",
    "open_image",
    "read_encoded",
    "refuse_trained_on",
    "sample_reader",
    "upright",
]
