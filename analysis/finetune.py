"""Train a small adapter (LoRA) of a language model on what a run has taught.

    llmatic export RUN --training-data data.jsonl
    python analysis/finetune.py MODEL data.jsonl --output adapter            # supervised
    python analysis/finetune.py MODEL data.dpo.jsonl --output adapter        # by preference
    llmatic run CONFIG --set generator.adapter=adapter ...

MODEL is a hub name or a folder of transformers; not a .gguf file. Needs the packages of
``pip install 'llmatic-hpc[finetune]'``. What is held out (``data.test.jsonl``) is evaluated before
and after, where there is any.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

KEPT = {"sft": ("prompt", "completion"), "dpo": ("prompt", "chosen", "rejected")}
"""Columns that are trained on; the others say where a row comes from."""


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=-1, help="at most; default: all of the epochs")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--length", type=int, default=1536, help="most tokens of a row")
    parser.add_argument("--targets", default="all-linear", help="modules to adapt, by commas")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    from datasets import Dataset
    from peft import LoraConfig

    rows = read(options.data)
    kind = "dpo" if "chosen" in rows[0] else "sft"
    held = options.data.with_name(f"{options.data.stem}.test{options.data.suffix}")
    test = read(held) if held.exists() else []
    targets = options.targets if options.targets == "all-linear" else options.targets.split(",")
    trainer = make(kind)(
        options.model,
        common(kind)(
            output_dir=str(options.output / "steps"),
            num_train_epochs=options.epochs,
            max_steps=options.steps,
            per_device_train_batch_size=options.batch,
            per_device_eval_batch_size=options.batch,
            learning_rate=options.learning_rate,
            max_length=options.length,
            seed=options.seed,
            logging_steps=1,
            report_to=[],
            save_strategy="no",
            gradient_checkpointing=False,
        ),
        [{k: row[k] for k in KEPT[kind]} for row in rows],
        [{k: row[k] for k in KEPT[kind]} for row in test],
        LoraConfig(r=options.rank, lora_alpha=2 * options.rank, target_modules=targets,
                   task_type="CAUSAL_LM"),
        Dataset,
    )  # fmt: skip
    before = trainer.evaluate() if test else {}
    trainer.train()
    after = trainer.evaluate() if test else {}
    trainer.model.save_pretrained(options.output)
    losses = [one["loss"] for one in trainer.state.log_history if "loss" in one]
    print(
        f"{kind}: {len(rows)} rows, {len(losses)} steps, loss {losses[0]:.4f} to {losses[-1]:.4f}"
    )
    if test:
        print(f"held out: {len(test)} rows, loss {before['eval_loss']:.4f} before, "
              f"{after['eval_loss']:.4f} after")  # fmt: skip
    print(f"the adapter is in {options.output}: set generator.adapter to it")


def common(kind: str) -> Any:
    """Return the class of the trainer's settings."""
    import trl

    return trl.SFTConfig if kind == "sft" else trl.DPOConfig


def make(kind: str) -> Any:
    """Return what makes a trainer."""
    import trl

    def made(model: str, settings: Any, rows: Any, test: Any, adapter: Any, dataset: Any) -> Any:
        trainer = trl.SFTTrainer if kind == "sft" else trl.DPOTrainer
        return trainer(
            model=model,
            args=settings,
            train_dataset=dataset.from_list(rows),
            eval_dataset=dataset.from_list(test) if test else None,
            peft_config=adapter,
        )

    return made


def read(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a file. Exits where there are none."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if not rows:
        raise SystemExit(f"{path}: no rows")
    return rows


if __name__ == "__main__":
    main()
