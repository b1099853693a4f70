"""The stages of a step in Hugging Face transformers, on the folders that `cargo bench --bench step -- --write DIR` makes.

    hf_stages.py DIR [--threads 2]

Prints a line of JSON for each stage, under the names of `cargo bench --bench limits`: how many units a second, at best.
"""

import argparse
import json
import os
import time
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", TRANSFORMERS_VERBOSITY="error", CUDA_VISIBLE_DEVICES="")


def best(run, budget=4.0, least=3):
    """Seconds of the fastest run."""
    run()
    times, start = [], time.perf_counter()
    while len(times) < least or (time.perf_counter() - start < budget and len(times) < 50):
        once = time.perf_counter()
        run()
        times.append(time.perf_counter() - once)
    return min(times)


def say(name, unit, count, run):
    seconds = best(run)
    print(json.dumps({"name": name, "unit": unit, "rate": count / seconds, "ms": seconds * 1e3}), flush=True)


def intake():
    import numpy as np
    from PIL import Image
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor

    processor = Qwen2VLImageProcessor(min_pixels=3136, max_pixels=1_003_520)
    for width, height in ((112, 112), (640, 480), (4000, 3000)):
        x, y = np.meshgrid(np.arange(width), np.arange(height))
        picture = Image.fromarray(np.stack([x // 3, y // 5, x ^ y], -1).astype(np.uint8))
        say(f"intake {width}x{height}", "images", 1, lambda: processor(images=[picture], return_tensors="pt"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    import torch

    torch.set_num_threads(args.threads)
    from PIL import Image
    from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

    intake()
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(args.folder / "model", dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(args.folder / "model")
    samples = [json.loads(line) for line in (args.folder / "data" / "samples.jsonl").read_text().splitlines()[:8]]

    def encode(samples):
        images = [[Image.open(args.folder / "data" / path).convert("RGB") for path in s["images"]] for s in samples]
        content = [[{"type": "image"}] * len(s["images"]) + [{"type": "text", "text": s["question"]}] for s in samples]
        texts = [processor.apply_chat_template([{"role": "user", "content": c}], add_generation_prompt=True) for c in content]
        return processor(text=texts, images=images, return_tensors="pt", padding=True)

    batch = encode(samples)
    count = len(batch["image_grid_thw"])
    with torch.no_grad():
        say(f"tower, {count} images", "images", count, lambda: model.model.visual(batch["pixel_values"], grid_thw=batch["image_grid_thw"]))
        say(f"prefill, {len(samples)} prompts", "tokens", batch["input_ids"].numel(), lambda: model(**batch, logits_to_keep=1))
        never = [processor.tokenizer.convert_tokens_to_ids(t) for t in ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")]
        for live in (1, 8, 32, 64):
            rows = encode(samples[:1] * live)
            say(f"decode, {live} live", "tokens", live * 64, lambda: model.generate(
                **rows, max_new_tokens=64, min_new_tokens=64, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, suppress_tokens=never))

    def passes(rows, new, trained):
        """Forward and backward over `rows` prompts with `new` more tokens; the loss counts the last `trained`."""
        inputs = encode([samples[i * len(samples) // rows] for i in range(rows)])
        more = (300 + (torch.arange(new)[None] * 7 + torch.arange(rows)[:, None] * 13) % 600)
        ids = torch.cat([inputs["input_ids"], more], 1)
        types = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(more)], 1) if "mm_token_type_ids" in inputs else None
        named = {"mm_token_type_ids": types} if types is not None else {}
        labels = ids.clone()
        labels[:, : ids.shape[1] - trained] = -100
        inputs = dict(input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=inputs["pixel_values"],
                      image_grid_thw=inputs["image_grid_thw"], labels=labels, use_cache=False, **named)

        def run():
            model(**inputs).loss.backward()
            model.zero_grad()

        return ids, run

    model.train()
    ids, run = passes(32, 6, 153)
    say("forward + backward, 32 rows alone", "tokens", ids.numel(), run)
    ids, run = passes(64, 48, 48)
    say("update, 64 rows shared", "tokens", 64 * 48, run)


if __name__ == "__main__":
    main()
