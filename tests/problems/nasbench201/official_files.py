"""Official files of every kind, made of the three published cells."""

from __future__ import annotations

import bz2
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

INDICES = (0, 11, 284)
FOLDER = "NATS-tss-v1_0-3ffb9-simple"
RENAMED = {"12": "less", "200": "full"}
"""Names that NAS-Bench-201 gives to a cell's two entries."""


def unpacked(path: Path) -> Any:
    """Values that a published file holds; these are trusted."""
    return pickle.loads(bz2.decompress(path.read_bytes()))


def pack(path: Path, found: Any) -> Path:
    """As NATS-Bench saves it."""
    path.write_bytes(bz2.compress(pickle.dumps(found, 4), 1))
    return path


def benchmark(folder: Path, *, renamed: bool = False) -> dict[str, Any]:
    """The three cells as the one dictionary that a single file holds."""
    meta = unpacked(folder / "meta.pickle.pbz2")
    cells = {index: unpacked(folder / f"{index:06d}.pickle.pbz2") for index in INDICES}
    if renamed:
        cells = {
            index: {RENAMED[key]: results for key, results in cell.items()}
            for index, cell in cells.items()
        }
    return meta | {"arch2infos": cells, "evaluated_indexes": set(INDICES)}


def trim(found: dict[str, Any]) -> dict[str, Any]:
    """Without most of the learning curves, which are nearly all of a file."""
    for cell in found["arch2infos"].values():
        for results in cell.values():
            for run in results["all_results"].values():
                for key in ("train_acc1es", "train_acc5es", "train_losses", "eval_acc1es",
                            "eval_losses", "eval_times"):  # fmt: skip
                    curve = run[key] or {}
                    run[key] = {k: v for k, v in curve.items() if str(k).endswith(("11", "199"))}
    return found


def save_nats(path: Path, found: dict[str, Any]) -> None:
    """``NATS-tss-v1_0-3ffb9.pickle.pbz2``."""
    pack(path, found)


def save_zip(path: Path, found: dict[str, Any]) -> None:
    """``.pth`` of PyTorch from 1.6 on."""
    import torch

    torch.save(found, path)


def save_legacy(path: Path, found: dict[str, Any]) -> None:
    """``.pth`` of earlier PyTorch, as the published ones are."""
    import torch

    torch.save(found, path, _use_new_zipfile_serialization=False)


def save_plain(path: Path, found: dict[str, Any]) -> None:
    """``nasbench201.pkl``."""
    path.write_bytes(pickle.dumps(found, 3))


def save_by_python(path: Path, found: dict[str, Any]) -> None:
    """By Python's own pickler, whose opcodes differ a little from those of the one in C."""
    buffer = io.BytesIO()
    pickle._Pickler(buffer, 2).dump(found)  # type: ignore[attr-defined]
    path.write_bytes(buffer.getvalue())


KINDS = {
    "NATS-tss-v1_0-3ffb9.pickle.pbz2": (save_nats, False),
    "NAS-Bench-201-v1_1-096897.pth": (save_zip, True),
    "NAS-Bench-201-v1_0-e61699.pth": (save_legacy, True),
    "nasbench201.pkl": (save_plain, True),
    "python.pkl": (save_by_python, True),
}


def torch_zip(path: Path, data: bytes) -> Path:
    """A file as ``torch.save`` writes it, with any pickle in it."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", "3\n")
    return path
