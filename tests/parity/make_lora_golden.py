#!/usr/bin/env python3
"""A PEFT adapter on a tiny Qwen2.5-VL and what PEFT computes with it; and the other way round, an adapter of ours in PEFT.

    make_lora_golden.py CASE OUTDIR [--seed N] [--b X]     makes the golden; B is X times as large as A (default 0.1)
    make_lora_golden.py CASE --check ADAPTER --ours FILE   loads an adapter with PEFT, compares logits with FILE
    make_lora_golden.py CASE --check-whole DIR --ours FILE the same of a whole checkpoint, such as a merged one

A check computes in float64 as well and ends with 1 if FILE is further from float32 than 2e-4, or than four times float32's own
distance from float64 where that is more.

CASE is a folder of the goldens with `checkpoint/` and `golden.safetensors` (tokens, grids and pixels are taken from there), such
as single_image. FILE is what `imagent forward --model ADAPTER --messages CASE/messages.json --pixels CASE/golden.safetensors` wrote.

OUTDIR holds `adapter/` (every linear map of tower, merger and language model, rank 4, A and B random, as PEFT's save_pretrained
writes it) and `peft.safetensors`: logits [T, vocabulary], loss (mean negative log-likelihood of all tokens but the first) and
its gradients `grad.NAME` by each A and B, under the names of the adapter's file. Float32, eager attention, one thread.

Needs torch, transformers, peft and safetensors in a virtual environment; made with transformers 5.23, peft 0.21, torch 2.15.
"""
import argparse
import json
import os
import zlib

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import Qwen2_5_VLForConditionalGeneration

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "qkv", "attn.proj", "mlp.0", "mlp.2"]


def base_model(folder):
    return Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def logits_of(model, case, dtype=torch.float32):
    golden = load_file(os.path.join(case, "golden.safetensors"))
    ids = golden["input_ids"].reshape(1, -1)
    image = json.load(open(os.path.join(case, "checkpoint", "config.json")))["image_token_id"]
    out = model(input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=golden["pixel_values"].to(dtype),
                image_grid_thw=golden["image_grid_thw"], mm_token_type_ids=(ids == image).long())
    return ids[0], out.logits[0]


def make(case, out, seed, b):
    torch.manual_seed(seed)
    config = LoraConfig(r=4, lora_alpha=6, lora_dropout=0.0, target_modules=TARGETS, task_type="CAUSAL_LM")
    model = get_peft_model(base_model(os.path.join(case, "checkpoint")), config).eval()
    for name, p in model.named_parameters():
        if "lora_" in name:
            rng = np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())]))
            # B is small, as training leaves it: a large one makes logits on which float32 itself is off by more than the bound.
            x = (b if "lora_B" in name else 1.0) * rng.standard_normal(tuple(p.shape)) / np.sqrt(p.shape[1])
            with torch.no_grad():
                p.copy_(torch.from_numpy(x.astype("float32")))
    ids, logits = logits_of(model, case)
    loss = torch.nn.functional.cross_entropy(logits[:-1], ids[1:])
    loss.backward()
    adapter = os.path.join(out, "adapter")
    model.save_pretrained(adapter)
    os.remove(os.path.join(adapter, "README.md"))
    path = os.path.join(adapter, "adapter_config.json")
    settings = json.load(open(path))
    # Not the path of this machine: the model's folder as seen from the adapter's.
    settings["base_model_name_or_path"] = os.path.relpath(os.path.join(case, "checkpoint"), adapter)
    settings["target_modules"] = sorted(settings["target_modules"])
    with open(path, "w") as f:
        json.dump(settings, f, indent=2)
        f.write("\n")
    grads = {n.replace(".default", ""): p.grad for n, p in model.named_parameters() if p.requires_grad}
    stored = set(load_file(os.path.join(adapter, "adapter_model.safetensors")))
    assert stored == set(grads), stored ^ set(grads)
    tensors = {"grad." + name: grad.contiguous() for name, grad in grads.items()}
    tensors.update({"logits": logits.detach().contiguous(), "loss": loss.detach().reshape(1)})
    save_file(tensors, os.path.join(out, "peft.safetensors"))
    with torch.no_grad():
        with model.disable_adapter():
            moved = (logits_of(model, case)[1] - logits).abs().max().item()
        merged = (logits_of(model.merge_and_unload(), case)[1] - logits).abs().max().item()
    print(f"{len(grads)} matrices, loss {loss.item():.6f}; the adapter moves the logits by {moved:.2f}, merging it by {merged:.1e}")


def check(case, adapter, whole, ours):
    model = base_model(whole or os.path.join(case, "checkpoint"))
    if adapter:
        model = PeftModel.from_pretrained(model, adapter).eval()
        there = {n.replace(".default", "") for n, _ in model.named_parameters() if "lora_" in n}
        stored = set(load_file(os.path.join(adapter, "adapter_model.safetensors")))
        assert there == stored, f"missing or unexpected: {sorted(there ^ stored)}"
    with torch.no_grad():
        theirs = logits_of(model, case)[1]
        exact = logits_of(model.double(), case, torch.float64)[1]
    mine = load_file(ours)["logits"]
    apart = lambda a, b: (a - b).abs().max().item()
    error, noise = apart(theirs, mine), apart(theirs, exact)
    print(f"largest difference of logits {error:.1e}, largest logit {theirs.abs().max().item():.1f}; "
          f"to float64: theirs {noise:.1e}, ours {apart(mine, exact):.1e}")
    if error > max(2e-4, 4 * noise):
        raise SystemExit("too far apart")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("case")
    parser.add_argument("out", nargs="?")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--b", type=float, default=0.1)
    parser.add_argument("--check")
    parser.add_argument("--check-whole")
    parser.add_argument("--ours")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.check or args.check_whole:
        check(args.case, args.check, args.check_whole, args.ours)
    else:
        make(args.case, args.out, args.seed, args.b)


if __name__ == "__main__":
    main()
