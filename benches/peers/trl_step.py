"""GRPO steps of TRL on the folders that `cargo bench --bench step -- --write DIR` makes; prints one line of JSON.

    trl_step.py DIR [--steps 6] [--group 8] [--prompts 8] [--new 48] [--micro ROWS] [--threads 2]

The model is float32 on the processor; no token ends a turn, so every completion has `--new` tokens. One step is not timed.
"""

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", TRANSFORMERS_VERBOSITY="error", TQDM_DISABLE="1", CUDA_VISIBLE_DEVICES="")


def rows(folder):
    """The samples as TRL wants them: a prompt, its images, and the number that the reward compares with."""
    from PIL import Image

    for line in (folder / "samples.jsonl").read_text().splitlines():
        sample = json.loads(line)
        yield {
            "prompt": [{"role": "user", "content": sample["question"]}],
            "images": [Image.open(folder / path).convert("RGB") for path in sample["images"]],
            "bound": int(sample["answer"]),
        }


def below(completion_ids, bound, **_):
    """Share of the tokens with an id below the sample's number."""
    return [sum(token < limit for token in ids) / max(1, len(ids)) for ids, limit in zip(completion_ids, bound)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    for name, default in (("steps", 6), ("group", 8), ("prompts", 8), ("new", 48), ("micro", 0), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()

    import torch

    torch.set_num_threads(args.threads)
    import trl
    from datasets import Dataset
    from transformers import AutoProcessor, PrinterCallback, Qwen2_5_VLForConditionalGeneration, TrainerCallback

    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(args.folder / "model", dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(args.folder / "model")
    vocabulary = processor.tokenizer.get_vocab()
    never = ["<|im_end|>", "<|endoftext|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    batch = args.prompts * args.group
    config = trl.GRPOConfig(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=args.micro or batch,
        gradient_accumulation_steps=batch // (args.micro or batch), num_generations=args.group,
        max_completion_length=args.new, max_steps=args.steps + 1, num_iterations=1, beta=0.0, learning_rate=1e-5,
        lr_scheduler_type="constant", bf16=False, use_cpu=True, gradient_checkpointing=False, report_to=[], save_strategy="no",
        disable_tqdm=True, shuffle_dataset=False, dataloader_num_workers=0, temperature=1.0,
        generation_kwargs={"suppress_tokens": [vocabulary[token] for token in never]})
    trainer = trl.GRPOTrainer(
        model=model, reward_funcs=below, args=config, train_dataset=Dataset.from_list(list(rows(args.folder / "data"))),
        processing_class=processor)
    trainer.remove_callback(PrinterCallback)

    spent, steps, seen = {}, [], {}

    class Watch(TrainerCallback):
        def on_step_begin(self, *_, **__):
            spent.clear()
            spent["start"] = time.perf_counter()

        def on_step_end(self, *_, **__):
            step = dict(spent)
            step["step"] = time.perf_counter() - step.pop("start")
            steps.append(step)

    def timed(owner, method, part):
        inner = getattr(owner, method)

        def outer(*positional, **named):
            start = time.perf_counter()
            try:
                return inner(*positional, **named)
            finally:
                spent[part] = spent.get(part, 0.0) + time.perf_counter() - start

        setattr(owner, method, outer)

    def counted(model, input_ids, *positional, **named):
        seen.update(tokens=input_ids.shape[1], images=len(named["image_grid_thw"]))
        return inner_scores(model, input_ids, *positional, **named)

    inner_scores = trainer._get_per_token_logps_and_entropies
    trainer._get_per_token_logps_and_entropies = counted
    timed(trainer, "_generate_and_score_completions", "rollout")
    timed(trainer, "compute_loss", "forward")
    timed(trainer.accelerator, "backward", "backward")
    trainer.add_callback(Watch())
    trainer.train()

    steps = steps[1:]
    median = {part: statistics.median(step[part] for step in steps) for part in steps[0]}
    print(json.dumps({
        "peer": f"TRL {trl.__version__}", "parameters": sum(p.numel() for p in model.parameters()), **seen, "rows": batch,
        "step_s": median["step"], "step_s_min": min(step["step"] for step in steps), "step_s_max": max(step["step"] for step in steps),
        "parts_s": median, "generated_tok_per_s": batch * args.new / median["step"],
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "threads": args.threads}))


if __name__ == "__main__":
    main()
