#!/usr/bin/env python3
"""Cuts a case of Qwen2.5-VL goldens down to what the tests need: `slim.py CASE_FOLDER... OUT_FOLDER`.

Kept: tokens, positions, windows, the resized bytes (the pixel values are made from them again), the last vision block, the
image embeddings, the last hidden state, log-probabilities, entropies, attention; logits if they are few. Weights are left out
where they are those of `single_image`: a case's `checkpoint` folder then holds what differs.
"""
import filecmp
import json
import pathlib
import shutil
import sys

from safetensors.numpy import load_file, save_file

KEPT = ("input_ids", "attention_mask", "position_ids", "image_grid_thw", "vision.window_index", "vision.cu_seqlens",
        "vision.cu_window_seqlens", "image_embeds", "hidden.norm", "logprobs", "entropy", "attn_last_sum",
        "attn_last_real_sum")
FEW = 1 << 18


def kept(name, tensor, blocks, modes):
    if name == "logits":
        return tensor.nbytes <= FEW
    # Where transformers puts a transparent palette on white, the pixel values do not follow from the resized bytes.
    if modes and (name == "pixel_values" or name.endswith((".rgb", ".rgb_pil_object"))):
        return True
    return name in KEPT or name.endswith((".resized", ".resized_pil_hfirst")) or name == f"vision.block.{blocks - 1}"


def slim(case, out, base):
    golden = load_file(case / "golden.safetensors")
    blocks = sum(name.startswith("vision.block.") for name in golden)
    modes = "image.0.rgb_pil_object" in golden
    out.mkdir(parents=True)
    save_file({name: tensor for name, tensor in golden.items() if kept(name, tensor, blocks, modes)},
              out / "golden.safetensors")
    manifest = json.loads((case / "manifest.json").read_text())
    for key in ("tensors", "special_tokens"):
        manifest.pop(key, None)
    (out / "manifest.json").write_text(json.dumps(manifest, ensure_ascii=False, indent=1) + "\n")
    shutil.copy(case / "messages.json", out)
    if (case / "images").is_dir():
        shutil.copytree(case / "images", out / "images")
    differing = [f for f in (case / "checkpoint").iterdir()
                 if not ((base / f.name).is_file() and filecmp.cmp(f, base / f.name, shallow=False))]
    if differing:
        (out / "checkpoint").mkdir()
        for file in differing:
            shutil.copy(file, out / "checkpoint")


if __name__ == "__main__":
    *cases, to = map(pathlib.Path, sys.argv[1:])
    for case in cases:
        slim(case, to / case.name, pathlib.Path(__file__).parent / "single_image/checkpoint")
