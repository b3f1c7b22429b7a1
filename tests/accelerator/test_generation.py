"""A language model on an accelerator: the texts of the CPU, one wait a token, memory given back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from llmatic_hpc.config import GeneratorSettings
from llmatic_hpc.problems.images.kind import image_classification
from llmatic_hpc.types import Request

from . import simulated
from .apart import apart


@apart
def test_the_same_texts_with_one_wait_a_token(tmp_path: Path) -> None:
    """Every row writes what it writes on the CPU, whole vocabulary or nucleus; a step
    waits for the device once; afterwards its memory is given back and the weights have left."""
    from llmatic_hpc.generation.language_model import batch
    from llmatic_hpc.generation.language_model.huggingface import HuggingFace

    from ..generation.conftest import save_model, save_tokenizer

    save_model(tmp_path, save_tokenizer(tmp_path))
    problem = image_classification(input_shape=(3, 32, 32), classes=10)
    requests = [
        Request(n, "mutation", n, problem.prompts[n], (problem.initial_source,), 0.2 + 0.1 * n, n)
        for n in range(5)
    ]
    common = GeneratorSettings(
        model=str(tmp_path), threads=1, max_new_tokens=12, batch=3, dtype="float32", idle="cpu"
    )
    texts = {}
    for top_p in (1.0, 0.8):
        generator = HuggingFace(replace(common, device="cpu", top_p=top_p), problem)
        texts[top_p] = {c.candidate: c.text for c in generator.generate(requests)}
    simulated.start()
    given_back: list[int] = []
    simulated.module.empty_cache = lambda: given_back.append(1)  # type: ignore[method-assign]
    waits: list[int] = []
    step = batch.Batch.step

    def counted(self: batch.Batch) -> list[batch.Row]:
        with simulated.counting() as counts:
            over = step(self)
        waits.append(len(counts.waits))
        return over

    batch.Batch.step = counted  # type: ignore[method-assign]
    for top_p in texts:
        generator = HuggingFace(replace(common, device="auto", top_p=top_p), problem)
        assert generator.device == "sim"
        found = {}
        for completion in generator.generate(requests):
            assert generator._model.device.type == "sim"
            found[completion.candidate] = completion.text
            given_back.clear()
        assert found == texts[top_p]
        assert given_back
        assert generator._model.device.type == "cpu"
    assert len(waits) > 30
    assert set(waits) == {1}
