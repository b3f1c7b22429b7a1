"""Settings of the generator that writes networks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ..errors import ConfigError
from .fields import merge, nearest, resumable, setting

OF_ALL = (
    "temperature", "repair", "request", "templates", "request_tokens", "examples", "resample",
    "resample_temperature", "retry",
)  # fmt: skip
"""Keys that no writer may have otherwise: search, requests and screen go by them."""


@dataclass(frozen=True)
class GeneratorSettings:
    """The writer of the networks, or what several have in common."""

    kind: str = setting(
        "huggingface",
        "a causal language model here; endpoint: one behind a server; procedural: the control "
        "without one; replay: completions from a file; or the name of an installed one",
    )
    model: str = setting(
        "Salesforce/codegen-350M-mono",
        "hub name, local folder, or a .gguf file; for kind = endpoint the server's name for it",
    )
    form: str = setting(
        "auto", "auto: chat where the model has a chat template, and for kind = endpoint",
        choices=("auto", "completion", "chat"),
    )  # fmt: skip
    temperature: float = setting(0.6, "of the start phase", low=0.0, high=10.0)
    top_p: float = setting(1.0, "nucleus sampling", low=0.01, high=1.0)
    max_new_tokens: int = setting(512, "longest completion", low=1, high=100_000)
    batch: int = resumable(100, "completions sampled at a time", low=1, high=10_000)
    dtype: str = resumable(
        "auto", "auto: bfloat16 or float16 on a GPU, float32 on a CPU",
        choices=("auto", "float32", "float16", "bfloat16"),
    )  # fmt: skip
    quantization: str = setting(
        "", "weights of the model in 8 or 4 bits (bitsandbytes); empty: as dtype says",
        choices=("", "8bit", "4bit"),
    )  # fmt: skip
    adapter: str = setting(
        "", "folder of an adapter that was trained for the model (LoRA, by peft); it is added to "
        "the weights"
    )  # fmt: skip
    device: str = resumable("auto", "auto, cpu, cuda, cuda:1, ...")
    idle: str = resumable(
        "keep", "place of the weights while candidates train; keep: the device; cpu: main memory, "
        "which leaves all of a GPU to workers that share it",
        choices=("keep", "cpu"),
    )  # fmt: skip
    threads: int = resumable(0, "CPU threads of the model; 0: all cores", low=0)
    request: str = setting(
        "paper", "what a model is told; paper: its parent and a fixed sentence; informed: also "
        "scores, layers, what was tried, what failed, other elites, by a template",
        choices=("paper", "informed"),
    )  # fmt: skip
    templates: str = setting(
        "", "folder with templates of one's own, mutation.txt, crossover.txt, random.txt, "
        "rewriting.txt; what is not there is the shipped one"
    )  # fmt: skip
    request_tokens: int = setting(
        1200, "most tokens of an informed request, estimated; the least useful part goes first",
        low=1, high=1_000_000,
    )  # fmt: skip
    examples: int = setting(2, "other elites that an informed request shows", low=0, high=3)
    repair: bool = setting(True, "make almost-right networks fit by rules, on the record")
    resample: int = setting(
        0, "how often a completion that repeats its parent or another known network is sampled "
        "again, with another seed, before any training", low=0, high=10,
    )  # fmt: skip
    resample_temperature: float = setting(
        0.2, "added to the temperature each time that a repeat is sampled again", low=0.0, high=10.0
    )
    retry: bool = setting(
        False, "show the model its completion that does not fit, with the error, and ask once more"
    )
    unseen: bool = setting(
        True, "nasbench201: the procedural control rather writes cells that have no score yet"
    )
    edits: str = setting(
        "neighbours", "nasbench201: the procedural control changes one edge while the parent has "
        "unseen neighbours; free: as many edges as the temperature makes it",
        choices=("neighbours", "free"),
    )  # fmt: skip
    url: str = resumable(
        "", "of an OpenAI-compatible server, such as http://node7:8000/v1, or the file in which "
        "'llmatic serve' says where it is (a path that ends in .json, or file://...); for kind = "
        "endpoint"
    )  # fmt: skip
    key_variable: str = resumable(
        "", "name of the environment variable with the server's key; empty: it wants none"
    )
    concurrency: int = resumable(16, "requests to the server at once", low=1, high=1000)
    request_seconds: float = resumable(
        300.0, "longest wait for the server's answer to one attempt at a request; where url is a "
        "file also, as often, for a server that is not there", low=0.1
    )  # fmt: skip
    retries: int = resumable(
        6, "further attempts at a request for which the server had no time or no answer", low=0,
        high=1000,
    )  # fmt: skip
    replay: str = setting("", "JSON Lines file of completions, for kind = replay")
    fallback: str = setting(
        "", "what takes over where the model cannot be had; empty: stop", choices=("", "procedural")
    )
    options: dict[str, Any] = setting({}, "settings of an installed generator's own")
    writers: tuple[dict[str, Any], ...] = setting(
        (), "several writers, [[generator.writers]]: a name, and keys as here; what one leaves out "
        "is as it stands here, and then kind is not given here", lasting=lambda v: _lasting(v),
    )  # fmt: skip

    @property
    def address_file(self) -> Path | None:
        """The file in which a server says where it is, if ``url`` is one."""
        if self.url.startswith("file://"):
            return Path(unquote(urlsplit(self.url).path))
        is_path = self.url.endswith(".json") and "://" not in self.url
        return Path(self.url).expanduser() if is_path else None

    def by_name(self, origin: str = "") -> dict[str, GeneratorSettings]:
        """Return the settings of every writer by its name; the one that has none is ``""``.

        Raises :class:`~llmatic_hpc.errors.ConfigError`, which begins with ``origin``, for a table
        that is not right.
        """
        if not self.writers:
            return {"": self}
        origin = f"{origin}: " if origin else ""
        if self.kind != GeneratorSettings.kind:
            raise ConfigError(
                f"{origin}generator.kind = {self.kind!r}, and there are generator.writers: say the "
                "kind of each of them, and none beside them"
            )
        plain, found = replace(self, writers=()), {}
        for number, table in enumerate(self.writers, 1):
            name = table.get("name", "")
            where = f"{origin}generator.writers, number {number}"
            if not isinstance(name, str) or not NAME.fullmatch(name):
                raise ConfigError(
                    f"{where}: needs a name of up to 32 letters, digits, '-', '_' and '.'; got "
                    f"{name!r}"
                )
            if name in found:
                raise ConfigError(f"{where}: there is another one of the name {name!r}")
            keys = {key: value for key, value in table.items() if key != "name"}
            if wrong := [key for key in (*OF_ALL, "writers") if key in keys]:
                raise ConfigError(
                    f"{where}: {wrong[0]} is of all writers; say it as generator.{wrong[0]}"
                )
            if unknown := sorted(keys.keys() - _KEYS):
                near = nearest(unknown[0], sorted(_KEYS))
                raise ConfigError(f"{where}: unknown setting {unknown[0]}{near}")
            found[name] = merge(plain, keys, where, "generator.")
        return found


NAME = re.compile(r"[A-Za-z0-9_.-]{1,32}")

_KEYS = {field.name for field in fields(GeneratorSettings)} - {"writers", *OF_ALL}


def _lasting(writers: tuple[Mapping[str, Any], ...]) -> list[dict[str, Any]]:
    """Return the tables without what may change when a run is continued."""
    passing = {f.name for f in fields(GeneratorSettings) if f.metadata["resumable"]}
    return [{k: v for k, v in table.items() if k not in passing} for table in writers]
