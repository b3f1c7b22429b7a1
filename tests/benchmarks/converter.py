"""Speed and memory of reading official files.

``LLMATIC_TEST_DATA=FOLDER python -m tests.benchmarks.converter [CELLS]`` makes files of CELLS
cells (1,000; the benchmark has 15,625) out of the three published ones, as a plain pickle, as
bzip2 (a tenth of the cells) and as a folder (likewise), and reads each in a process of its own.
"""

from __future__ import annotations

import bz2
import os
import pickle
import pickletools
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

INDEX, NAME = 0x7ABCDEF1, "an architecture"


def main() -> None:
    """Print a line for each kind of file."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    folder = Path(os.environ["LLMATIC_TEST_DATA"]) / "NATS-tss-v1_0-3ffb9-simple"
    with tempfile.TemporaryDirectory() as scratch:
        plain = Path(scratch) / "plain.pkl"
        with open(plain, "wb") as file:
            write(file, folder, count)
        measure(plain, count)
        plain.unlink()
        packed = Path(scratch) / "packed.pickle.pbz2"
        with bz2.BZ2File(packed, "wb") as file:
            write(file, folder, max(count // 10, 3))
        measure(packed, max(count // 10, 3))
        many = Path(scratch) / "folder"
        many.mkdir()
        shutil.copy(folder / "meta.pickle.pbz2", many)
        template, strings = templates(folder)[0], architectures(folder)
        for index in range(max(count // 10, 3)):
            body, _ = template.fill(index, strings[index], 0)
            name = f"{index:06d}.pickle.pbz2"
            (many / name).write_bytes(bz2.compress(b"\x80\x04" + body + b"."))
        measure(many, max(count // 10, 3))


def measure(source: Path, count: int) -> float:
    """Read in a new process, and print what it took. Returns its peak memory, MB."""
    code = (
        "import re, sys, time; from pathlib import Path; "
        "from llmatic_hpc.problems.nasbench201.official import files as official; "
        "start = time.monotonic(); "
        "cells = sum(1 for _ in official.read(Path(sys.argv[1])).cells); "
        "seconds = time.monotonic() - start; "
        # ru_maxrss would count what this process had before it began.
        "peak = re.search(r'VmHWM:\\s*(\\d+)', Path('/proc/self/status').read_text())[1]; "
        "print(cells, seconds, int(peak) / 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(source)], capture_output=True, text=True, check=True
    )
    cells, seconds, peak = map(float, done.stdout.split())
    assert cells == count
    files = [source] if source.is_file() else list(source.iterdir())
    size = sum(file.stat().st_size for file in files) / 1e6
    print(
        f"{source.name}: {count:,} cells, {size:,.0f} MB in {seconds:.1f} s: "
        f"{1000 * seconds / count:.1f} ms a cell, {size / seconds:.1f} MB/s; "
        f"peak {peak:.0f} MB",
        flush=True,
    )
    return peak


class Template:
    """The pickle of a cell, in pieces between which its index, its name and its references to
    objects before it (which count from the beginning of the file) are filled in."""

    def __init__(self, cell: Any) -> None:
        self.pieces: list[bytes | str | int] = []
        self.memoized = 0
        data = pickle.dumps(cell, 4)
        opcodes = list(pickletools.genops(data))
        ends = [position for *_, position in opcodes[1:]] + [len(data)]
        for (opcode, argument, start), end in zip(opcodes, ends, strict=True):
            if opcode.name in ("PROTO", "FRAME", "STOP"):
                continue
            self.memoized += opcode.name == "MEMOIZE"
            if opcode.name in ("BINGET", "LONG_BINGET"):
                self.pieces.append(argument)
            elif argument in (INDEX, NAME):
                self.pieces.append("index" if argument == INDEX else "name")
            elif self.pieces and isinstance(self.pieces[-1], bytes):
                self.pieces[-1] += data[start:end]
            else:
                self.pieces.append(data[start:end])

    def fill(self, index: int, name: str, before: int) -> tuple[bytes, int]:
        """The pickle of cell ``index``, ``before`` objects into a file; and objects after it."""
        values = {
            "index": b"M" + struct.pack("<H", index),
            "name": b"\x8c" + bytes([len(name)]) + name.encode(),
        }
        filled = [
            piece if isinstance(piece, bytes)
            else values[piece] if isinstance(piece, str)
            else b"j" + struct.pack("<I", before + piece)
            for piece in self.pieces
        ]  # fmt: skip
        return b"".join(filled), before + self.memoized


def templates(folder: Path) -> list[Template]:
    """Entries of the three published cells."""
    found = []
    for path in sorted(folder.glob("0*.pickle.pbz2")):
        cell = pickle.loads(bz2.decompress(path.read_bytes()))
        for results in cell.values():
            results["arch_index"], results["arch_str"] = INDEX, NAME
        found.append(Template(cell))
    return found


def architectures(folder: Path) -> list[str]:
    """All, in the official order."""
    meta = pickle.loads(bz2.decompress((folder / "meta.pickle.pbz2").read_bytes()))
    return list(meta["meta_archs"])


def write(file: IO[bytes], folder: Path, count: int) -> None:
    """A single file of ``count`` cells, of which none shares an object with another, in the
    memory of one cell."""
    for piece in _pieces(folder, count):
        file.write(piece)


def _pieces(folder: Path, count: int) -> Iterator[bytes]:
    strings, cells = architectures(folder), templates(folder)
    head = pickle.dumps({"meta_archs": strings, "total_archs": len(strings)}, 2)
    memoized = sum(op.name in ("BINPUT", "LONG_BINPUT") for op, *_ in pickletools.genops(head))
    yield head[:-1]
    yield b"X\x0a\x00\x00\x00arch2infos}"
    for index in range(count):
        body, memoized = cells[index % len(cells)].fill(index, strings[index], memoized)
        yield b"J" + struct.pack("<i", index) + body + b"s"
    yield b"s."


if __name__ == "__main__":
    main()
