"""Adapters: added to the weights exactly, known by their digest, refused with a sentence."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from llmatic_hpc import config as configuration
from llmatic_hpc.config import GeneratorSettings
from llmatic_hpc.errors import ConfigError, GeneratorError
from llmatic_hpc.generation.language_model import adapter, model_loading
from llmatic_hpc.generation.language_model.huggingface import HuggingFace
from llmatic_hpc.generation.several import sharing
from llmatic_hpc.types import Problem, Request

Settings = Callable[..., GeneratorSettings]
needs_peft = pytest.mark.skipif(
    importlib.util.find_spec("peft") is None, reason="peft is not installed"
)


def load(folder: Path) -> model_loading.LanguageModel:
    return model_loading.load(folder, dtype=torch.float32, device="cpu", shown_as="tiny")


@pytest.fixture(scope="module")
def trained(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of the tiny model with random changes, as peft saves it."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    config = LoraConfig(r=2, lora_alpha=6, target_modules=["qkv_proj"], task_type="CAUSAL_LM")
    base = load(tiny_model).model
    folder = tmp_path_factory.mktemp("adapters") / "mine"
    with model_loading.quiet():
        model = get_peft_model(base, config)
        for name, weight in model.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(weight, std=0.5)
        model.save_pretrained(folder)
    return folder


@needs_peft
def test_an_adapter_is_added_to_the_weights(tiny_model: Path, trained: Path) -> None:
    """Weights are W + alpha / r * B A, computed here from the file; others stay as they are."""
    from safetensors.torch import load_file

    before = load(tiny_model).model.state_dict()
    after = adapter.merged(load(tiny_model).model, str(trained)).state_dict()
    file = load_file(trained / "adapter_model.safetensors")
    change = {name.removeprefix("base_model.model."): weight for name, weight in file.items()}
    assert before.keys() == after.keys()
    changed = 0
    for name, weight in before.items():
        stem = name.removesuffix(".weight")
        if (low := change.get(f"{stem}.lora_A.weight")) is not None:
            high = change[f"{stem}.lora_B.weight"]
            weight = weight + 6 / 2 * high @ low
            changed += 1
        torch.testing.assert_close(after[name], weight)
    assert changed == 2


@needs_peft
def test_a_writer_with_an_adapter_writes_otherwise(
    settings: Settings, problem: Problem, ask: Callable[..., Request], trained: Path
) -> None:
    """Its texts differ, its name says which adapter, and it shares nothing with a plain one."""
    with sharing():
        plain = HuggingFace(settings(), problem)
        changed = HuggingFace(settings(adapter=str(trained)), problem)
        again = HuggingFace(settings(adapter=str(trained)), problem)
    (one,), (other,) = (list(g.generate([ask(0)])) for g in (plain, changed))
    assert one.text != other.text
    assert changed.name == f"{plain.name}+{adapter.name(str(trained))}"
    assert adapter.name(str(trained)).startswith("mine@")
    assert changed._model is again._model
    assert changed._model is not plain._model


def test_two_forms_of_one_model_share_its_weights(
    settings: Settings, problem: Problem, ask: Callable[..., Request], tiny_chat_model: Path
) -> None:
    """One copy in memory, each with its own form; what one closes the other still has."""
    with sharing():
        chat = HuggingFace(settings(model=str(tiny_chat_model)), problem)
        text = HuggingFace(settings(model=str(tiny_chat_model), form="completion"), problem)
    assert chat._model is text._model
    assert HuggingFace(settings(model=str(tiny_chat_model)), problem)._model is not chat._model
    assert (chat.form, text.form) == ("chat", "completion")
    before = [completion.text for completion in text.generate([ask(0)])]
    chat.close()
    assert [completion.text for completion in text.generate([ask(0)])] == before


def test_what_is_no_adapter_is_refused(
    settings: Settings, problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sentence for a missing folder, missing weights, and a missing package."""
    wanted = settings(adapter=str(tmp_path))
    with pytest.raises(GeneratorError, match=r"no adapter: there is no adapter_config\.json"):
        HuggingFace(wanted, problem)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    with pytest.raises(GeneratorError, match="the weights are missing"):
        HuggingFace(wanted, problem)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(GeneratorError, match="needs the package peft"):
        HuggingFace(wanted, problem)


@needs_peft
def test_an_adapter_of_another_model_is_refused(
    settings: Settings, problem: Problem, trained: Path, tmp_path: Path
) -> None:
    """The error names the adapter and what to look at."""
    other = tmp_path / "other"
    other.mkdir()
    config = json.loads((trained / "adapter_config.json").read_text())
    (other / "adapter_config.json").write_text(json.dumps({**config, "target_modules": ["nope"]}))
    (other / "adapter_model.safetensors").write_bytes(
        (trained / "adapter_model.safetensors").read_bytes()
    )
    with pytest.raises(GeneratorError, match=r"is it an adapter of generator\.model\?"):
        HuggingFace(settings(adapter=str(other)), problem)


def test_an_adapter_is_of_a_model_here(tmp_path: Path) -> None:
    """A server or the control has none, and quantised weights cannot be added to."""
    path = tmp_path / "c.toml"
    for more in ('kind = "procedural"', 'quantization = "8bit"'):
        path.write_text(f'[generator]\nadapter = "x"\n{more}\n')
        with pytest.raises(ConfigError, match=r"generator\.adapter is of generator\.kind"):
            configuration.load(path)
