"""Notes of every process that imports llmatic_hpc from where it does, beside this file.

:mod:`tests.golden.drive` copies this file into a folder for each tree and puts that first on
PYTHONPATH: so it is known which tree a run, its workers and their children were really of.
"""

import importlib.util
import os
import sys


class _Witness:
    def find_spec(self, name, path=None, target=None):
        if name != "llmatic_hpc":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        folder = os.path.join(os.path.dirname(__file__), "seen")
        with open(os.path.join(folder, str(os.getpid())), "a", encoding="utf-8") as file:
            file.write(f"{spec.origin if spec else None}\n")
        return spec


sys.meta_path.insert(0, _Witness())
