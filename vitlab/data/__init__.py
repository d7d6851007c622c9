"""Images and labels: whole data sets as uint8 tensors on the device, augmented and normalised there."""

from vitlab.data.batching import augment, batches, normalise
from vitlab.data.classes import match_classes
from vitlab.data.dataset import Dataset, check_labels, hold_out, mirror_likeness, select_classes
from vitlab.data.examples import example_folder
from vitlab.data.folders import image_folder
from vitlab.data.masked_photos import MaskedPhotos, photos_with_masks
from vitlab.data.pairs import Relations, relations
from vitlab.data.pictures import fit_picture, read_image
from vitlab.data.sources import cifar10, cifar100, fashion_mnist, photos
from vitlab.data.synthetic import Scenes, scenes
from vitlab.data.two_garments import TwoGarments, scenes_of_two
from vitlab.files import find, root

__all__ = [
    "Dataset",
    "MaskedPhotos",
    "Relations",
    "Scenes",
    "TwoGarments",
    "augment",
    "batches",
    "check_labels",
    "cifar10",
    "cifar100",
    "example_folder",
    "fashion_mnist",
    "find",
    "fit_picture",
    "hold_out",
    "image_folder",
    "match_classes",
    "mirror_likeness",
    "normalise",
    "photos",
    "photos_with_masks",
    "read_image",
    "relations",
    "root",
    "scenes",
    "scenes_of_two",
    "select_classes",
]
