"""A language model made on the spot: the paper's architecture, two layers, random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import CodeGenConfig, CodeGenForCausalLM, PreTrainedTokenizerFast

from llmatic_hpc.config import GeneratorSettings
from llmatic_hpc.problems.images.kind import image_classification
from llmatic_hpc.types import Problem, Request

CONTEXT = 512
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def save_tokenizer(folder: Path, *, chat: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer, trained on the problem's own text."""
    problem = image_classification(input_shape=(3, 32, 32), classes=10)
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([problem.initial_source, *problem.prompts], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|endoftext|>")
    if chat:
        tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    return tokenizer


def save_model(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    """A CodeGen of two layers whose distribution is far from uniform."""
    torch.manual_seed(0)
    config = CodeGenConfig(
        vocab_size=len(tokenizer),
        n_positions=CONTEXT,
        n_ctx=CONTEXT,
        n_embd=64,
        n_layer=2,
        n_head=4,
        rotary_dim=8,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = CodeGenForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight.mul_(10)
        model.lm_head.bias[tokenizer.eos_token_id] = -8  # texts that end, but not at once
        for block in model.transformer.h:
            for layer in (block.attn.qkv_proj, block.attn.out_proj, block.mlp.fc_out):
                layer.weight.mul_(5)
    # Habits that must not bend the distribution.
    model.generation_config.update(do_sample=True, top_k=3, repetition_penalty=1.5)
    model.save_pretrained(folder)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a completion model."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model(folder, save_tokenizer(folder))
    return folder


@pytest.fixture(scope="session")
def tiny_chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a chat template."""
    folder = tmp_path_factory.mktemp("models") / "chat"
    save_model(folder, save_tokenizer(folder, chat=True))
    return folder


@pytest.fixture(scope="session")
def problem() -> Problem:
    """The paper's: CIFAR-10."""
    return image_classification(input_shape=(3, 32, 32), classes=10)


@pytest.fixture(scope="session")
def settings(tiny_model: Path) -> Callable[..., GeneratorSettings]:
    """Settings of the tiny model on one thread; anything else by keyword."""

    def make(**changes: object) -> GeneratorSettings:
        values = {"model": str(tiny_model), "device": "cpu", "threads": 1, "max_new_tokens": 24}
        return GeneratorSettings(**{**values, **changes})  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def ask(problem: Problem) -> Callable[..., Request]:
    """A mutation of the initial network; anything else by keyword."""

    def make(candidate: int = 0, **changes: object) -> Request:
        values = {
            "candidate": candidate,
            "operator": "mutation",
            "prompt": candidate % 13,
            "instruction": problem.prompts[candidate % 13],
            "parents": (problem.initial_source,),
            "temperature": 0.6,
            "seed": 1000 + candidate,
        }
        return Request(**{**values, **changes})  # type: ignore[arg-type]

    return make
