"""Import what the processes of these tests need, once, on one thread."""

import numpy as np  # noqa: F401
import pytest  # noqa: F401
import torch

from llmatic_hpc.evaluation import child, screen, training, worker  # noqa: F401

from . import simulated  # noqa: F401

torch.set_num_threads(1)
