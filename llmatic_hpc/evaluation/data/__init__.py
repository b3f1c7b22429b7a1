"""Read, check and split images and labels.

Accepted for ``problem.data``:

``digits``
    scikit-learn's 1,797 real 8x8 digits, each pixel repeated to 3x32x32, values to 0..255;
    a fixed stratified split into 1,437 for training and 360 for testing
a folder
    CIFAR-10 as torchvision keeps it (the folder that holds ``cifar-10-batches-py``)
an .h5 or .npz file
    with ``train/images``, ``train/labels``, ``test/images``, ``test/labels``; or ``x_train``,
    ``y_train``, ``x_test``, ``y_test``; or ``images``, ``labels``, of which a fixed stratified
    fifth becomes the test split

Images are (N, height, width), (N, height, width, channels) or (N, channels, height, width)
with 1 to 4 channels; integers from 0 to 255, or floating point from 0 to 1. Labels are the
integers 0 to K-1.
"""

from .loading import checked, describe, for_training, load
from .named import fetch
from .splits import Dataset, Split, stratified

__all__ = ["Dataset", "Split", "checked", "describe", "fetch", "for_training", "load", "stratified"]
