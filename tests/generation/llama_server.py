"""llama.cpp's own server with a GGUF file, without a key or with one:

    python -m tests.generation.llama_server MODEL.gguf [KEY]

prints its address and serves until standard input ends.
"""

from __future__ import annotations

import sys

import xllamacpp


def main(model: str, key: str = "") -> None:
    """Small enough for a test: two requests at once, a context of 1,024 tokens for each."""
    settings = xllamacpp.CommonParams()
    settings.model.path = model
    settings.model_alias = {"small"}
    settings.api_keys = [key] if key else []
    settings.port = 0
    settings.n_ctx, settings.n_parallel = 2048, 2
    settings.warmup = False
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 2
    settings.cpuparams.poll = settings.cpuparams_batch.poll = 0  # others want the cores, too
    server = xllamacpp.Server(settings)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
