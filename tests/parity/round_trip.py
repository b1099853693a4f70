#!/usr/bin/env python3
"""Carries checkpoints between imagent and Hugging Face transformers, both ways.

    round_trip.py [CHECKPOINT...] [--made] [--binary target/release/imagent]

Each CHECKPOINT is a folder that imagent wrote; `--made` adds random ones of `imagent model init`, in one file and in shards, in
each type of element. `Qwen2_5_VLForConditionalGeneration` and `AutoProcessor` load it without a missing,
unexpected or mismatched key and compute the same tokens, pixel values and logits as `imagent forward`; then `save_pretrained` writes it
anew, and imagent computes the same from that. Needs torch and transformers 5 (a virtual environment, CPU). Prints the largest
differences; ends with 1 if one is beyond its bound: tokens equal, pixel values 1e-6, logits 2e-4 (or 4 times float32's noise).
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TQDM_DISABLE", "1")

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import load_file
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

ROOT = pathlib.Path(__file__).resolve().parents[2]


def chat(folder):
    """Two pictures of whole tokens (so that no resize comes between) and a few words."""
    noise = np.random.default_rng(3)
    for name, (height, width) in {"a.png": (112, 112), "b.png": (56, 224)}.items():
        Image.fromarray(noise.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / name)
    image = lambda name: {"type": "image_url", "image_url": {"url": name}}
    text = lambda words: {"type": "text", "text": words}
    messages = [{"role": "user", "content": [image("a.png"), text("What digit is in the first image?"), image("b.png")]},
                {"role": "assistant", "content": "<answer>7</answer>"}]
    (folder / "messages.json").write_text(json.dumps(messages))
    return messages


def theirs(checkpoint, messages, folder):
    model, info = Qwen2_5_VLForConditionalGeneration.from_pretrained(
        checkpoint, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    wrong = {key: list(info[key]) for key in ("missing_keys", "unexpected_keys", "mismatched_keys") if info.get(key)}
    processor = AutoProcessor.from_pretrained(checkpoint)
    text = processor.apply_chat_template(messages, tokenize=False)
    pictures = [Image.open(folder / name).convert("RGB") for name in ("a.png", "b.png")]
    x = processor(text=[text], images=pictures, return_tensors="pt")
    model.eval()
    with torch.no_grad():
        logits = model(**x, use_cache=False).logits[0]
        double = model.double()(**{k: v.double() if v.is_floating_point() else v for k, v in x.items()}, use_cache=False)
        noise = float((double.logits[0] - logits).abs().max())
    return model.float(), processor, wrong, dict(ids=x["input_ids"][0].numpy(), pixels=x["pixel_values"].numpy(), logits=logits.numpy()), noise


def ours(binary, checkpoint, folder):
    out = folder / "out.safetensors"
    command = [binary, "forward", "--model", checkpoint, "--messages", folder / "messages.json", "--out", out]
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
    tensors = load_file(out)
    return dict(ids=tensors["input_ids"], pixels=tensors["pixel_values"], logits=tensors["logits"])


def differences(a, b):
    if a["ids"].tolist() != b["ids"].tolist():
        return dict(ids="differ")
    return dict(ids="equal", **{key: float(np.abs(a[key] - b[key]).max()) for key in ("pixels", "logits")})


def header_size(path):
    """Bytes of the tensors that a file's header lists."""
    with open(path, "rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
    return max(tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__")


def made(binary, folder):
    """Random checkpoints; shards so small that the larger tensors have one of their own."""
    for preset, dtype, shard in [("nano", "f32", "5GB"), ("nano", "f32", "1MB"), ("nano", "bf16", "300kB"), ("nano", "f16", "100kB")]:
        out = folder / f"{preset}, shards of {shard}"
        command = [binary, "model", "init", "--preset", preset, "--seed", "7", "--dtype", dtype, "--shard-size", shard, "--out", out]
        subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
        # What the index says is what is there.
        index = out / "model.safetensors.index.json"
        files = sorted(file.name for file in out.glob("*.safetensors"))
        if index.exists():
            index = json.loads(index.read_text())
            assert sorted(set(index["weight_map"].values())) == files and len(files) > 1, files
            sizes = [header_size(out / file) for file in files]
            assert index["metadata"]["total_size"] == sum(sizes), (index["metadata"], sum(sizes))
        yield out, len(files)


def carry(binary, checkpoint, files):
    """There and back; whether all is within its bounds."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        messages = chat(folder)
        model, processor, wrong, reference, noise = theirs(checkpoint, messages, folder)
        model.save_pretrained(folder / "saved")
        processor.save_pretrained(folder / "saved")
        config = json.loads((checkpoint / "config.json").read_text())
        stored = config.get("torch_dtype") or config.get("dtype")
        good = not wrong
        for direction, place in (("imagent to transformers", checkpoint), ("and back", folder / "saved")):
            found = differences(ours(binary, place, folder), reference)
            keys = "all" if not wrong else str(wrong)
            print(f"| {checkpoint.name} | {stored}, {files} | {direction} | {keys} | {found['ids']} | "
                  f"{found.get('pixels', 0):.1e} | {found.get('logits', 0):.1e} |", flush=True)
            good &= found["ids"] == "equal" and found["pixels"] <= 1e-6 and found["logits"] <= max(2e-4, 4 * noise)
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="*", type=pathlib.Path)
    parser.add_argument("--made", action="store_true")
    parser.add_argument("--binary", default=ROOT / "target/release/imagent")
    args = parser.parse_args()
    torch.set_num_threads(1)
    failed = False
    print("| checkpoint | stored as, files | direction | keys | ids | pixels | logits |\n|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        fresh = list(made(args.binary, pathlib.Path(scratch))) if args.made else []
        given = [(checkpoint, len(list(checkpoint.glob("*.safetensors")))) for checkpoint in args.checkpoints]
        if not given + fresh:
            parser.error("nothing to carry: name checkpoints or give --made")
        for checkpoint, files in given + fresh:
            failed |= not carry(args.binary, checkpoint, files)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
