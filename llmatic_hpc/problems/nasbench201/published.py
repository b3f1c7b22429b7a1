"""Published results on NAS-Bench-201, to stand beside one's own runs."""

from __future__ import annotations

TEST_ACCURACY: dict[str, dict[str, tuple[float, float | None]]] = {
    "Random Search": {
        "cifar10": (93.70, 0.36), "cifar100": (71.04, 1.07), "imagenet16_120": (44.57, 1.25),
    },
    "GENIUS": {
        "cifar10": (93.79, 0.09), "cifar100": (70.91, 0.72), "imagenet16_120": (44.96, 1.02),
    },
    "Lambda-DARTS": {
        "cifar10": (94.36, 0.00), "cifar100": (73.51, 0.00), "imagenet16_120": (46.34, 0.00),
    },
    "LLMatic": {
        "cifar10": (94.26, 0.13), "cifar100": (71.62, 1.73), "imagenet16_120": (45.87, 0.96),
    },
    "Optimal": {
        "cifar10": (94.47, None), "cifar100": (74.17, None), "imagenet16_120": (47.33, None),
    },
}  # fmt: skip
"""Table 1 of the LLMatic paper: mean and what follows its ± (which it does not define), percent.

"Optimal" is not the best cell by the mean over its trainings, which is what a run looks up: that
one is recorded in every run."""

BEST_RANK = {"LLMatic": {"cifar10": 2, "cifar100": 2, "imagenet16_120": 11}}
"""Table 2 of the LLMatic paper."""
