"""The language model: exact sampling, independent of the batch, within the context."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import AutoModelForCausalLM, AutoTokenizer

from llmatic_hpc.config import GeneratorSettings
from llmatic_hpc.errors import GeneratorError
from llmatic_hpc.generation import extract, shown
from llmatic_hpc.generation.language_model import batch, device, huggingface, prefill
from llmatic_hpc.generation.language_model.huggingface import HuggingFace
from llmatic_hpc.generation.language_model.prefill import packs
from llmatic_hpc.generation.language_model.sampling import Row, Writer
from llmatic_hpc.types import REWRITING, Completion, Problem, Request

from ..conftest import CONTEXT

Settings = Callable[..., GeneratorSettings]
Ask = Callable[..., Request]


def by_candidate(completions: list[Completion]) -> dict[int, str]:
    return {c.candidate: c.text for c in completions}


@pytest.fixture(scope="module")
def generator(settings: Settings, problem: Problem) -> HuggingFace:
    return HuggingFace(settings(), problem)


def test_every_request_is_answered_once(generator: HuggingFace, ask: Ask) -> None:
    """One completion per candidate, with what the record wants to know of it."""
    requests = [ask(n) for n in range(20)]
    answers = list(generator.generate(requests))
    assert sorted(c.candidate for c in answers) == list(range(20))
    assert all(c.form == "completion" for c in answers)
    assert all(c.prefix == "class Net(nn.Module):" for c in answers)
    assert all(1 <= c.tokens <= 24 and c.seconds > 0 and not c.failure for c in answers)


def test_no_requests_no_work(generator: HuggingFace) -> None:
    """An empty batch is fine."""
    assert list(generator.generate([])) == []


@pytest.mark.parametrize("top_p", [1.0, 0.7])
def test_text_does_not_depend_on_the_batch(
    settings: Settings, problem: Problem, ask: Ask, top_p: float
) -> None:
    """The same seed writes the same text alone, among 3 and among 8, in any order, although
    the prompts have different lengths and some of them are the same."""
    padded = problem.initial_source + "# padding\n" * 7
    requests = [
        ask(n, parents=(padded if n % 3 else problem.initial_source,), prompt=0,
            instruction=problem.prompts[n % 4], temperature=0.2 + 0.1 * n)
        for n in range(8)
    ]  # fmt: skip
    texts = []
    for size in (1, 3, 8):
        generator = HuggingFace(settings(batch=size, max_new_tokens=80, top_p=top_p), problem)
        texts.append(by_candidate(list(generator.generate(requests))))
        texts.append(by_candidate(list(generator.generate(requests[::-1]))))
    assert all(t == texts[0] for t in texts[1:])
    assert len(set(texts[0].values())) == 8


def test_seeds_make_the_difference(generator: HuggingFace, ask: Ask) -> None:
    """Another seed, another text; the same seed, the same text."""
    same = [ask(n, instruction="Improve", seed=7) for n in range(3)]
    other = [ask(n, instruction="Improve", seed=n) for n in range(3, 6)]
    texts = by_candidate(list(generator.generate([*same, *other])))
    assert texts[0] == texts[1] == texts[2]
    assert len({texts[0], texts[3], texts[4], texts[5]}) == 4


def test_every_row_has_its_own_temperature(generator: HuggingFace, ask: Ask) -> None:
    """At 0 all rows agree whatever the seed; next to them hot rows differ."""
    requests = [ask(n, instruction="Improve", temperature=0.0 if n < 4 else 5.0) for n in range(8)]
    texts = by_candidate(list(generator.generate(requests)))
    assert len({texts[n] for n in range(4)}) == 1
    assert len({texts[n] for n in range(4, 8)}) == 4


@pytest.mark.parametrize(("temperature", "top_p"), [(0.6, 1.0), (1.0, 1.0), (0.9, 0.8)])
def test_first_tokens_are_distributed_as_the_softmax_says(
    settings: Settings, problem: Problem, ask: Ask, temperature: float, top_p: float
) -> None:
    """Chi-square of 3,000 draws against probabilities from a plain forward pass."""
    generator = HuggingFace(settings(max_new_tokens=1, batch=1000, top_p=top_p), problem)
    requests = [ask(n, instruction="Improve", temperature=temperature) for n in range(3000)]
    counts = Counter(c.text for c in generator.generate(requests))

    folder = settings().model
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        ids = tokenizer(generator.prompt(requests[0]), return_tensors="pt").input_ids
        logits = model(ids).logits[0, -1].double().numpy()
    p = np.exp(logits / temperature - (logits / temperature).max())
    p /= p.sum()
    order = np.argsort(-p)
    keep = order[: np.searchsorted(np.cumsum(p[order]), top_p) + 1] if top_p < 1 else order
    expected: Counter[str] = Counter()
    for token in keep:
        text = tokenizer.decode([token], skip_special_tokens=True)
        expected[text] += 3000 * p[token] / p[keep].sum()
    assert set(counts) <= set(expected)
    large = [text for text, n in expected.items() if n >= 5]
    observed_bins = [counts[t] for t in large]
    expected_bins = [expected[t] for t in large]
    rest = 3000 - sum(expected_bins)
    if rest > 1:
        observed_bins.append(3000 - sum(observed_bins))
        expected_bins.append(rest)
    scale = sum(observed_bins) / sum(expected_bins)
    assert len(large) > 10
    assert stats.chisquare(observed_bins, [e * scale for e in expected_bins]).pvalue > 0.001


def test_habits_of_the_model_do_not_bend_the_distribution(generator: HuggingFace) -> None:
    """top_k and penalties that came with the model are gone; its end tokens stay."""
    config = generator._model.generation_config
    assert config.top_k is None
    assert config.eos_token_id == generator._tokenizer.eos_token_id


def test_parents_that_do_not_fit_the_context(generator: HuggingFace, ask: Ask) -> None:
    """The candidate fails with its length and the context's; the others go on."""
    long = "x = 1\n" * CONTEXT
    answers = {c.candidate: c for c in generator.generate([ask(0), ask(1, parents=(long,))])}
    assert not answers[0].failure
    assert answers[1].text == ""
    assert not answers[1].finished
    assert answers[1].failure.startswith("the parents do not fit the context: ")
    assert answers[1].failure.endswith(f"tokens of {CONTEXT}")


def test_the_answer_shrinks_to_what_the_context_leaves(
    settings: Settings, problem: Problem, ask: Ask
) -> None:
    """Prompt and answer together never exceed the context, and another row in the same batch
    still gets all it asked for."""
    generator = HuggingFace(settings(max_new_tokens=300, batch=2), problem)
    filler = "# 0\n"
    parent = problem.initial_source
    while CONTEXT - len(generator._tokens(ask(parents=(parent,)))) > 100:
        parent += filler
    prompt = len(generator._tokens(ask(parents=(parent,))))
    assert 64 <= CONTEXT - prompt <= 100
    answers = {c.candidate: c for c in generator.generate([ask(0, parents=(parent,)), ask(1)])}
    assert answers[0].tokens == CONTEXT - prompt or answers[0].finished
    assert answers[1].tokens > CONTEXT - prompt or answers[1].finished
    tight = parent + filler * 15
    [refused] = generator.generate([ask(2, parents=(tight,))])
    assert "to write" in refused.failure


class OutOfMemory:
    """A model that has memory for so many rows and no more; counts what it is asked for."""

    def __init__(self, model: object, rows: int = 1000) -> None:
        self.model, self.rows = model, rows
        self.sizes: list[int] = []
        """Rows of every step."""
        self.read: list[int] = []
        """Tokens of prompts."""
        self.alone = 0
        """Rows that were computed once more, on their own."""

    def __getattr__(self, name: str) -> object:
        return getattr(self.model, name)

    def __call__(self, *, input_ids: torch.Tensor, **options: object) -> object:
        if {"cache", "past_key_values"} & set(options):
            self.sizes.append(len(input_ids))
            if len(input_ids) > self.rows:
                raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        else:
            self.alone += 1
        return self.model(input_ids=input_ids, **options)  # type: ignore[operator]

    def base_model(self, *, input_ids: torch.Tensor, **options: object) -> object:
        self.read.append(input_ids.numel())
        return self.model.base_model(input_ids=input_ids, **options)  # type: ignore[attr-defined]


def test_out_of_memory_halves_the_batch(settings: Settings, problem: Problem, ask: Ask) -> None:
    """The batch shrinks until it fits, stays small, and the texts are what they would be."""
    generator = HuggingFace(settings(batch=8), problem)
    requests = [ask(n) for n in range(10)]
    plain = by_candidate(list(generator.generate(requests)))
    model = OutOfMemory(generator._model, rows=2)
    generator._model = model
    assert by_candidate(list(generator.generate(requests))) == plain
    assert [n for n in model.sizes if n > 2] == [8, 4]
    assert generator._batch == 2


def test_out_of_memory_for_one_completion_is_an_error(
    settings: Settings, problem: Problem, ask: Ask
) -> None:
    """The message says what to change."""
    generator = HuggingFace(settings(batch=2), problem)
    generator._model = OutOfMemory(generator._model, rows=0)
    with pytest.raises(GeneratorError, match=r"not enough memory .* generator\.dtype"):
        list(generator.generate([ask(0)]))


def test_other_errors_of_the_model_are_not_swallowed(
    settings: Settings, problem: Problem, ask: Ask
) -> None:
    """An error other than a lack of memory is raised, and the batch stays as it is."""
    generator = HuggingFace(settings(), problem)
    generator._model = None
    with pytest.raises(AttributeError):
        list(generator.generate([ask(0)]))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_likelihoods_that_are_no_numbers(
    settings: Settings, problem: Problem, ask: Ask, wrong: float
) -> None:
    """The error names the model, its precision and what to try."""
    generator = HuggingFace(settings(), problem)
    with torch.no_grad():
        generator._model.lm_head.bias[3] = wrong
    with pytest.raises(GeneratorError, match=r"tiny: cannot be sampled from in float32 .* damaged"):
        list(generator.generate([ask(0)]))


def test_what_all_rows_share_is_kept_once(
    settings: Settings, problem: Problem, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes of the cache are those of one beginning and of each row's own; the texts those of
    rows that keep all of it."""
    made: list[batch.Batch] = []

    class Noted(batch.Batch):
        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **options)  # type: ignore[arg-type]
            made.append(self)

    monkeypatch.setattr(huggingface, "Batch", Noted)
    generator = HuggingFace(settings(batch=20), problem)
    requests = [ask(n) for n in range(20)]
    sharing = by_candidate(list(generator.generate(requests)))
    monkeypatch.setattr(huggingface, "shared_by", lambda model, rows: 0)
    assert by_candidate(list(generator.generate(requests))) == sharing
    one, other = (b._kept for b in made)
    sizes = [sum(x.nbytes for p in (*c.common, *c.buffers) for x in p) for c in (one, other)]
    assert one.shared > 100
    token = device.bytes_per_token(generator._model.config, torch.float32)
    assert token == 2 * 2 * 64 * 4
    assert sizes == [token * (one.shared + 20 * one.columns), token * 20 * other.columns]
    assert other.columns - one.columns == one.shared


def test_the_batch_is_chosen_by_the_free_memory(
    settings: Settings, problem: Problem, ask: Ask, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """No more rows than fit are begun with, and the log says how many and why."""
    monkeypatch.setattr(device, "memory_left", lambda where: 2_000_000)
    generator = HuggingFace(settings(batch=20), problem)
    model = OutOfMemory(generator._model)
    generator._model = model
    with caplog.at_level("INFO", logger="llmatic_hpc"):
        assert len(list(generator.generate([ask(n) for n in range(20)]))) == 20
    assert 2 <= max(model.sizes) < 20
    assert f"20 completions, {max(model.sizes)} at a time (generator.batch = 20)" in caplog.text


def test_shared_beginnings_are_read_once(settings: Settings, problem: Problem, ask: Ask) -> None:
    """Eight rows of two prompts read the shared parent once and each end once."""
    generator = HuggingFace(settings(batch=8), problem)
    model = OutOfMemory(generator._model)
    generator._model = model
    requests = [ask(n, instruction="AB"[n % 2]) for n in range(8)]
    list(generator.generate(requests))
    one, two = (generator._tokens(r)[:-1] for r in requests[:2])
    common = next(n for n in range(len(one)) if one[n] != two[n])
    assert common > len(one) // 2
    assert model.read == [len(one) + len(two) - common]


@pytest.mark.parametrize("chat", [False, True])
def test_sharing_changes_no_text(
    settings: Settings, problem: Problem, ask: Ask, monkeypatch: pytest.MonkeyPatch,
    tiny_model: Path, tiny_chat_model: Path, chat: bool,
) -> None:  # fmt: skip
    """Prompts that are read each on its own lead to the same texts."""
    model = str(tiny_chat_model if chat else tiny_model)
    longer = problem.initial_source + "# a comment\n" * 5
    requests = [
        ask(n, parents=(longer if n % 2 else problem.initial_source,)) for n in range(12)
    ]  # fmt: skip
    generator = HuggingFace(settings(model=model, max_new_tokens=60, batch=12), problem)
    shared = by_candidate(list(generator.generate(requests)))
    apart = partial(packs, share=False)
    monkeypatch.setattr(batch, "helpful", lambda prompts, read: {})
    monkeypatch.setattr(batch, "packs", lambda prompts, *, share, known: apart(prompts))
    assert by_candidate(list(generator.generate(requests))) == shared


def test_a_pack_is_full_at_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts beyond that begin another one; each is there once, whole and in its order."""
    monkeypatch.setattr(prefill, "PACK", 12)
    prompts = [[1, 2, 3, 4], [1, 2, 5], [1, 2, 3, 4], [6] * 20, [], [7, 8], [7, 8, 9, 9]]
    found = list(packs(prompts))
    assert [pack.tokens for pack in found] == [[1, 2, 3, 4, 5], [6] * 20, [7, 8, 9, 9]]
    for pack in found:
        for prompt, columns in pack.columns.items():
            assert [pack.tokens[c] for c in columns] == list(prompt)
            assert [pack.positions[c] for c in columns] == list(range(len(prompt)))
    assert {p for pack in found for p in pack.columns} == {tuple(p) for p in prompts if p}


def test_rows_that_join_later_read_little_and_change_nothing(
    settings: Settings, problem: Problem, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch whose rows come one after the other, of other parents than the first ones: what
    they share shrinks to what all of them begin with, what a row there has read is not read
    again, and each writes what it writes alone."""
    generator = HuggingFace(settings(), problem)
    requests = [
        ask(n, parents=("# other\n" * (n // 4) + problem.initial_source,), prompt=0,
            instruction=problem.prompts[n % 4])
        for n in range(12)
    ]  # fmt: skip
    rows = [
        replace(generator._row(r, generator._tokens(r)), limit=20 + 5 * (n % 3), top_p=top_p)
        for n, r in enumerate(requests)
        for top_p in [(1.0, 0.7, 0.9)[n % 3]]
    ]
    alone = []
    for row in rows:
        one = batch.Batch(generator._model, generator._writer)
        one.admit([row.afresh()])
        alone.append(next(iter(filter(None, (one.step() for _ in range(99)))))[0].text)
    model = OutOfMemory(generator._model)
    together = batch.Batch(model, generator._writer, shared=batch.shared_by(model, rows[:2]))
    assert together._kept.shared > 100
    together.admit(rows[:2])
    over: list[Row] = []
    for n in range(2, 12, 2):
        over += together.step()
        over += together.step()
        together.admit(rows[n : n + 2])
    assert together._kept.shared == 0  # the third parent begins otherwise
    while together.rows:
        over += together.step()
    assert {row.candidate: row.text for row in over} == dict(enumerate(alone))
    lengths = [len(row.prompt) - 1 for row in rows]
    assert model.read[1] < lengths[2] / 3
    assert sum(model.read) < sum(lengths) / 2


def test_a_row_that_nobody_wants_leaves(settings: Settings, problem: Problem, ask: Ask) -> None:
    """Its place is free at once, and the others write what they would have."""
    generator = HuggingFace(settings(), problem)
    rows = [generator._row(r, generator._tokens(r)) for r in (ask(0), ask(1), ask(2))]
    plain = by_candidate(list(generator.generate([ask(0), ask(1), ask(2)])))
    some = batch.Batch(generator._model, generator._writer, shared=50)
    some.admit(rows)
    some.step()
    rows[0].done = True
    assert some.leave() == [rows[0]]
    while some.rows:
        some.step()
    assert [rows[1].text, rows[2].text] == [plain[1], plain[2]]


def test_texts_that_end_a_row(settings: Settings, problem: Problem, ask: Ask) -> None:
    """The first of its stops ends it and is cut off, also where it is more than a token."""
    generator = HuggingFace(settings(max_new_tokens=60), problem)
    row = replace(generator._row(ask(0), generator._tokens(ask(0))), form="")

    def written(row: Row) -> Row:
        one = batch.Batch(generator._model, generator._writer)
        one.admit([row])
        while one.rows:
            one.step()
        return row

    text = written(row.afresh()).text
    stop = text[30:37]
    stopped = written(replace(row.afresh(), stops=("never in it", stop)))
    assert stopped.text == text[: text.index(stop)]
    assert stopped.finished
    assert len(stopped.tokens) < 60


def test_places_of_done_rows_are_taken_again(
    settings: Settings, problem: Problem, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch of 8 stays full while rows wait, none is computed beyond its end, and the texts
    are those of one alone."""
    requests = [ask(n, temperature=0.2 + 0.05 * n) for n in range(24)]
    for n in range(0, 24, 5):
        requests[n] = replace(requests[n], parents=(problem.initial_source + "# more\n" * n,))
    write = Writer.write

    def end_early(writer: Writer, row: Row, token: int) -> None:
        write(writer, row, token)
        row.done = row.done or len(row.tokens) == 5 + 17 * row.candidate % 50

    monkeypatch.setattr(Writer, "write", end_early)
    generator = HuggingFace(settings(max_new_tokens=100, batch=8), problem)
    model = OutOfMemory(generator._model)
    generator._model = model
    answers = list(generator.generate(requests))
    assert {a.candidate: a.tokens for a in answers} == {n: 5 + 17 * n % 50 for n in range(24)}
    assert sum(model.sizes) == sum(a.tokens for a in answers)
    assert set(model.sizes[: model.sizes.index(7)]) == {8}
    assert model.sizes.index(7) > sum(model.sizes) // 8 - 50
    alone = HuggingFace(settings(max_new_tokens=100, batch=1), problem)
    assert by_candidate(list(alone.generate(requests))) == by_candidate(answers)


@pytest.mark.parametrize("top_p", [1.0, 0.8])
def test_a_hundred_at_once_write_what_each_writes_alone(
    settings: Settings, problem: Problem, ask: Ask, top_p: float
) -> None:
    """The same texts with 1, 7 and 100 in the batch."""
    sources = [problem.initial_source + "# line\n" * n for n in range(5)]
    requests = [
        ask(n, parents=(sources[n % 5],), temperature=0.1 + 0.01 * n) for n in range(100)
    ]  # fmt: skip
    texts = [
        by_candidate(
            list(
                HuggingFace(settings(batch=size, max_new_tokens=16, top_p=top_p), problem).generate(
                    requests
                )
            )
        )
        for size in (1, 7, 100)
    ]
    assert texts[0] == texts[1] == texts[2]
    assert len(set(texts[0].values())) > 50


def test_what_rounding_could_decide_is_decided_alone(
    settings: Settings, problem: Problem, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row's own forward pass decides where an error of the logits may change a token."""
    generator = HuggingFace(settings(max_new_tokens=30, batch=4), problem)
    requests = [ask(n) for n in range(4)]
    plain = by_candidate(list(generator.generate(requests)))
    monkeypatch.setattr(batch, "ERROR", 0.05)
    model = OutOfMemory(generator._model)
    generator._model = model
    assert by_candidate(list(generator.generate(requests))) == plain
    assert 0 < model.alone < 120


def test_models_without_keys_and_values_go_through_generate(
    settings: Settings, problem: Problem, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such models write the same texts, and each row gets all its tokens."""
    requests = [
        ask(n, parents=(problem.initial_source + "# line\n" * (n % 3) * 20,)) for n in range(7)
    ]  # fmt: skip
    texts = []
    for fits in (True, False):
        monkeypatch.setattr(huggingface, "suits", lambda model, fits=fits: fits)
        generator = HuggingFace(settings(batch=3, max_new_tokens=120), problem)
        texts.append(by_candidate(list(generator.generate(requests))))
    assert texts[0] == texts[1]


def test_chat_where_there_is_a_template(
    settings: Settings, problem: Problem, ask: Ask, tiny_chat_model: Path, tiny_model: Path
) -> None:
    """auto means chat for a model with a chat template; chat without one is an error."""
    chat = HuggingFace(settings(model=str(tiny_chat_model)), problem)
    assert chat.form == "chat"
    assert chat.prompt(ask(0)).startswith("<|system|>")
    assert chat.prompt(ask(0)).endswith("\n<|assistant|>")
    [answer] = chat.generate([ask(0)])
    assert (answer.form, answer.prefix) == ("chat", "")
    wanted = replace(ask(0), operator=REWRITING, parents=(), text="Write one more.")
    assert chat.writes_prose
    assert "<|user|>Write one more.\n" in chat.prompt(wanted)
    assert next(chat.generate([wanted])).text
    plain = HuggingFace(settings(model=str(tiny_chat_model), form="completion"), problem)
    assert not plain.writes_prose
    assert plain.form == "completion"
    with pytest.raises(GeneratorError, match="no chat template"):
        HuggingFace(settings(form="chat"), problem)


def test_a_template_without_a_system_role(
    settings: Settings, problem: Problem, ask: Ask, tiny_chat_model: Path
) -> None:
    """The system's message goes in front of the user's."""
    generator = HuggingFace(settings(model=str(tiny_chat_model)), problem)
    generator._tokenizer.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{{ messages[0].content }}"
    )
    assert "Python code block" in generator.prompt(ask(0))
    assert "class Net" in generator.prompt(ask(0))


def test_name_and_threads(generator: HuggingFace, settings: Settings) -> None:
    """The name says which model wrote the networks; threads are as set."""
    assert generator.name == f"huggingface:{settings().model}"
    assert torch.get_num_threads() == 1


def test_closing_twice(settings: Settings, problem: Problem) -> None:
    """close() may be called again."""
    generator = HuggingFace(settings(), problem)
    generator.close()
    generator.close()


@pytest.mark.slow
def test_a_real_model_writes_networks(
    test_model: Path, problem: Problem, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Two chat answers of a real model hold a class each; a second start reads the converted
    copy and writes the same; nothing is printed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    settings = GeneratorSettings(model=str(test_model), threads=1, max_new_tokens=300)
    requests = [ask(n, prompt=6, instruction=problem.prompts[6]) for n in range(2)]
    texts = []
    for _ in range(2):
        generator = HuggingFace(settings, problem)
        answers = list(generator.generate(requests))
        texts.append(by_candidate(answers))
        generator.close()
    assert texts[0] == texts[1]
    for request, answer in zip(requests, sorted(answers, key=lambda a: a.candidate), strict=True):
        found = extract(answer.text, form=answer.form, context=(shown(request),))
        assert found.failure == ""
        assert "class Net(nn.Module):" in found.source
    assert len(list((tmp_path / "llmatic-hpc" / "converted").iterdir())) == 1
    assert capfd.readouterr() == ("", "")
