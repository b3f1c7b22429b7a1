"""Read, check and split images, sequences or tables, and labels.

Accepted for ``problem.data``:

``digits``
    scikit-learn's 1,797 real 8x8 digits, each pixel repeated to 3x32x32, values to 0..255;
    a fixed stratified split into 1,437 for training and 360 for testing
``torchvision:NAME:FOLDER``
    a data set as torchvision keeps it in the folder: CIFAR10, CIFAR100, MNIST, FashionMNIST,
    KMNIST, USPS, SVHN, STL10
a folder
    CIFAR-10 as torchvision keeps it (the folder that holds ``cifar-10-batches-py``)
a folder of images by class
    ``train/CLASS/FILE``, ``test/CLASS/FILE`` and perhaps ``val/CLASS/FILE``; or ``CLASS/FILE``.
    PNG, JPEG and what else Pillow reads with 8 bits; see :func:`.folders.read` for their size
an .h5 or .npz file
    with ``train/images``, ``train/labels``, ``test/images``, ``test/labels`` and perhaps
    ``val/images``, ``val/labels``; or ``x_train``, ``y_train``, ``x_test``, ``y_test`` and perhaps
    ``x_val``, ``y_val``; or ``images``, ``labels``; or ``x``, ``y``

Without a test part a fixed stratified fifth becomes it.

Arrays in a file are what ``problem.layout`` says: ``auto`` takes (N, features) for tables and all
else for images. Images are (N, height, width), (N, height, width, channels) or (N, channels,
height, width); :func:`.shaping.channels_last` tells which. They are integers from 0 to 255,
booleans, or floating point from 0 to 1, -1 to 1 or 0 to 255, of which the first that holds all
training images is meant; 0 to 255 only with a value of 128 or more. All become uint8, 256 steps of
that range: what was made of uint8 comes back as it was, and finer differences are rounded away.
Sequences, (N, channels, length) or (N, length), and tables are finite numbers of any type; those
that candidates get are float32, standardised (:func:`.scaling.standardised`).

Labels are integers from 0 or from 1 on, texts, or one-hot rows. Videos and numbers to predict are
refused.
"""

from .loading import (
    checked,
    class_names,
    describe,
    for_training,
    load,
    refuse_augmentation,
    remark,
    scale,
)
from .named import fetch
from .splits import Dataset, Split, stratified

__all__ = [
    "Dataset", "Split", "checked", "class_names", "describe", "fetch", "for_training", "load",
    "refuse_augmentation", "remark", "scale", "stratified",
]  # fmt: skip
