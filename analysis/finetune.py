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
from pathlib import Path

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

    import torch
    import trl
    from datasets import load_dataset
    from peft import LoraConfig

    held = options.data.with_name(f"{options.data.stem}.test{options.data.suffix}")
    files = {"train": str(options.data)}
    if held.exists() and held.stat().st_size:
        files["test"] = str(held)
    data = load_dataset("json", data_files=files)
    kind = "dpo" if "chosen" in data["train"].column_names else "sft"
    data = data.select_columns(list(KEPT[kind]))
    targets = options.targets if options.targets == "all-linear" else options.targets.split(",")
    settings = (trl.SFTConfig if kind == "sft" else trl.DPOConfig)(
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
        bf16=torch.cuda.is_available(),
        use_cpu=not torch.cuda.is_available(),
    )
    trainer = (trl.SFTTrainer if kind == "sft" else trl.DPOTrainer)(
        model=options.model,
        args=settings,
        train_dataset=data["train"],
        eval_dataset=data.get("test"),
        peft_config=LoraConfig(
            r=options.rank,
            lora_alpha=2 * options.rank,
            target_modules=targets,
            task_type="CAUSAL_LM",
        ),
    )
    before = trainer.evaluate() if "test" in data else {}
    trainer.train()
    after = trainer.evaluate() if "test" in data else {}
    trainer.model.save_pretrained(options.output)
    losses = [one["loss"] for one in trainer.state.log_history if "loss" in one]
    print(
        f"{kind}: {len(data['train'])} rows, {len(losses)} steps, loss {losses[0]:.4f} to "
        f"{losses[-1]:.4f}"
    )
    if "test" in data:
        print(
            f"held out: {len(data['test'])} rows, loss {before['eval_loss']:.4f} before, "
            f"{after['eval_loss']:.4f} after"
        )
    print(f"the adapter is in {options.output}: set generator.adapter to it")


if __name__ == "__main__":
    main()
