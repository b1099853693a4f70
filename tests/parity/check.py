#!/usr/bin/env python3
"""Compares `imagent forward` with Hugging Face transformers on random tiny Qwen2.5-VL models.

    check.py [--seeds 1,2,3] [--binary target/release/imagent] [--only CASE] [--folder CASES]

Needs torch, transformers 5 and "pillow<13" (a virtual environment, CPU). Every seed draws new weights, pictures and sizes for
each case below; `--folder` compares case folders that lie there (golden.safetensors, messages.json, checkpoint) instead.
Prints, case by case, the largest difference of each stage, and ends with 1 if one is beyond its bound:

    ids      tokens, positions, grids, windows, greedy tokens   equal
    resized  bytes of the shown images                          equal to Pillow's (12 or older)
    stages   blocks, embeddings, hidden states                  2e-4 of the stage's largest value
    logits   logits, log-probabilities, entropies               2e-4, or four times float32's own noise
    attn     attention of the last token, summed over heads     1e-4
    grads    each parameter's gradient, relative norm           1e-3

Logits are compared on transformers' own pixel values (its default resize is torchvision's, up to two levels from Pillow's).
"""
import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TQDM_DISABLE", "1")

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOKENIZER = ROOT / "tests/parity/single_image/checkpoint"
IDS = {"bos": "<|endoftext|>", "eos": "<|im_end|>", "image": "<|image_pad|>", "video": "<|video_pad|>",
       "start": "<|vision_start|>", "end": "<|vision_end|>", "vision": "<|vision_pad|>"}

# case: what differs from the defaults of `model_config` and `conversation`
CASES = {
    "one image": dict(images=1),
    "three images, untied, sharded": dict(images=3, tie=False, shards=3),
    "wide and tall": dict(images=2, shape="long"),
    "over max_pixels": dict(images=2, shape="large", max_pixels=28 * 28 * 20),
    "under min_pixels": dict(images=2, shape="small", min_pixels=28 * 28 * 9),
    "one key head (MQA)": dict(images=1, heads=4, kv=1),
    "six heads, two key heads": dict(images=1, heads=6, kv=2),
    "ragged windows": dict(images=3, shape="any", window=112),
    "small windows": dict(images=2, window=56),
    "nested config, new names, bf16": dict(images=1, nested=True, dtype="bfloat16", tie=False),
    "f16 weights": dict(images=1, dtype="float16"),
    "text only": dict(images=0),
    "tool turns": dict(images=2, tool=True),
    "two chats, left padding": dict(images=3, pad="left"),
    "two chats, right padding": dict(images=3, pad="right"),
    "JPEG, grey, palette": dict(images=4, shape="any", modes=True),
    "greedy": dict(images=2, generate=16),
    "gradients": dict(images=2, gradients=True),
}


def model_config(case, rng, tokens):
    heads, kv = case.get("heads", 4), case.get("kv", 2)
    half = rng.choice([8, 12, 16])
    section = [half - 2 * (half * 3 // 8), half * 3 // 8, half * 3 // 8]
    hidden, layers, depth = heads * 2 * half, rng.randint(2, 4), rng.randint(3, 5)
    full = sorted(rng.sample(range(depth), rng.randint(1, 2)))
    eps, theta = rng.choice([(1e-6, 1e6), (1e-5, 1e4)])
    text = dict(hidden_size=hidden, intermediate_size=rng.choice([96, 112, 200]), num_hidden_layers=layers,
                num_attention_heads=heads, num_key_value_heads=kv, vocab_size=960, rms_norm_eps=eps, hidden_act="silu",
                max_position_embeddings=32768, max_window_layers=layers, use_sliding_window=False)
    vision = dict(depth=depth, hidden_size=rng.choice([32, 48]), intermediate_size=rng.choice([52, 100]), num_heads=2,
                  out_hidden_size=hidden, patch_size=14, spatial_merge_size=2, temporal_patch_size=2, hidden_act="silu",
                  window_size=case.get("window", rng.choice([56, 112])), fullatt_block_indexes=full, tokens_per_second=2)
    top = dict(architectures=["Qwen2_5_VLForConditionalGeneration"], model_type="qwen2_5_vl",
               tie_word_embeddings=case.get("tie", True), image_token_id=tokens["image"], video_token_id=tokens["video"],
               vision_start_token_id=tokens["start"], vision_end_token_id=tokens["end"], vision_token_id=tokens["vision"],
               bos_token_id=tokens["bos"], eos_token_id=tokens["eos"])
    if case.get("nested"):
        text.update(model_type="qwen2_5_vl_text", bos_token_id=tokens["bos"], eos_token_id=tokens["eos"],
                    rope_parameters=dict(rope_type="default", rope_theta=theta, mrope_section=section))
        return dict(top, text_config=text, vision_config=dict(vision, model_type="qwen2_5_vl", in_channels=3))
    rope = dict(rope_theta=theta, rope_scaling=dict(type="mrope", mrope_section=section))
    return dict(top, **text, **rope, vision_config=dict(vision, in_chans=3, spatial_patch_size=14))


def hub_name(name):
    return name.replace("model.language_model.", "model.").replace("model.visual.", "visual.")


def write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def make_checkpoint(folder, case, rng, seed):
    """A checkpoint in the published layout; weights wide enough that a wrong window or section shows."""
    from transformers import AutoConfig, Qwen2_5_VLForConditionalGeneration
    folder.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.json"):
        (folder / name).write_bytes((TOKENIZER / name).read_bytes())
    added = {t["content"]: t["id"] for t in json.loads((folder / "tokenizer.json").read_text())["added_tokens"]}
    write_json(folder / "config.json", model_config(case, rng, {key: added[text] for key, text in IDS.items()}))
    write_json(folder / "preprocessor_config.json", dict(
        min_pixels=case.get("min_pixels", 3136), max_pixels=case.get("max_pixels", 28 * 28 * 64), patch_size=14,
        temporal_patch_size=2, merge_size=2, image_processor_type="Qwen2VLImageProcessor",
        processor_class="Qwen2_5_VLProcessor", image_mean=[0.48145466, 0.4578275, 0.40821073],
        image_std=[0.26862954, 0.26130258, 0.27577711]))
    model = Qwen2_5_VLForConditionalGeneration(AutoConfig.from_pretrained(folder)).float()
    draw = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=draw)
        fan_in = weight[0].numel() if weight.dim() > 1 else 1
        scale = 0.4 if "embed_tokens" in name or "lm_head" in name else 1.4 / fan_in**0.5
        norm = "norm" in name or "ln_q" in name
        weight.data = 1 + 0.2 * noise if norm else 0.2 * noise if weight.dim() == 1 else scale * noise
    model.tie_weights()
    dtype = getattr(torch, case.get("dtype", "float32"))
    tied = case.get("tie", True)
    rename = (lambda name: name) if case.get("nested") else hub_name
    tensors = {rename(name): weight.detach().to(dtype).contiguous() for name, weight in model.named_parameters()
               if not (tied and name == "lm_head.weight")}
    shards = case.get("shards", 1)
    names = [f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)] if shards > 1 else ["model.safetensors"]
    where = {name: names[i * shards // len(tensors)] for i, name in enumerate(sorted(tensors))}
    for file in names:
        save_torch({name: tensors[name] for name in where if where[name] == file}, folder / file, metadata={"format": "pt"})
    if shards > 1:
        write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": where})


def picture(rng, shape, kind):
    lo, hi = {"large": (300, 700), "small": (8, 40)}.get(shape, (40, 260))
    width, height = rng.randint(lo, hi), rng.randint(lo, hi)
    if shape == "long":
        width, height = rng.choice([(rng.randint(400, 600), rng.randint(20, 40)), (rng.randint(20, 40), rng.randint(300, 500))])
    noise = np.random.default_rng(rng.getrandbits(32))
    y, x = np.mgrid[0:height, 0:width]
    waves = [128 + 90 * np.sin(x / noise.uniform(2, 20) + y / noise.uniform(2, 20) + c) for c in range(3)]
    pixels = np.stack(waves, -1) + noise.normal(0, 8, (height, width, 3))
    pixels[height // 3:height // 2, width // 4:width // 2] = noise.uniform(0, 255, 3)
    image = Image.fromarray(np.clip(pixels, 0, 255).astype("uint8"))
    return image.convert("L") if kind == "grey" else image.quantize(16) if kind == "palette" else image


def save_pictures(folder, case, rng):
    (folder / "images").mkdir()
    names = []
    for i in range(case["images"]):
        kind = ["jpg", "grey", "palette", "exif"][i % 4] if case.get("modes") else rng.choice(["png", "jpg"])
        image = picture(rng, case.get("shape"), kind)
        names.append(f"images/{i}.{'jpg' if kind in ('jpg', 'exif') else 'png'}")
        options = {}
        if names[-1].endswith("jpg"):
            options = dict(quality=rng.randint(40, 100), subsampling=rng.randint(0, 2), progressive=rng.random() < 0.5)
        if kind == "exif":
            exif = Image.Exif()
            exif[0x0112] = rng.randint(2, 8)
            options["exif"] = exif.tobytes()
        image.save(folder / names[-1], **options)
    return names


def conversations(case, rng, names):
    image = lambda name: {"type": "image_url", "image_url": {"url": name}}
    text = lambda words: {"type": "text", "text": words}
    question = rng.choice(["Which image shows the red square?", "两只猫，一只狗 — how many?", "Compare, é ü 😀."])
    answer = {"role": "assistant", "content": rng.choice(["<answer>B</answer>", "no", "They're the same size."])}
    if case.get("pad"):
        asked = [[{"role": "user", "content": [image(names[0]), text("How many?")]}, answer],
                 [{"role": "user", "content": [*map(image, names[1:]), text(question)]}, answer]]
        return asked
    parts = [part for i, name in enumerate(names) for part in (text(f"Image {i + 1}:"), image(name))]
    if case.get("tool"):
        call = '<think>I zoom in.</think>\n<tool_call>\n{"name": "zoom_in", "arguments": {"image": 1}}\n</tool_call>'
        answered = {"role": "user", "content": [text("<tool_response>"), image(names[-1]), text("</tool_response>")]}
        return [[{"role": "system", "content": "Be brief."}, {"role": "user", "content": parts[:-2] + [text(question)]},
                 {"role": "assistant", "content": call}, answered, answer]]
    chat = [{"role": "user", "content": parts + [text(question)]}]
    return [chat if case.get("generate") else chat + [answer]]


def golden(folder, case, chats):
    """What transformers computes: a dictionary of arrays under the names that `imagent forward` writes."""
    from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration
    from transformers.image_utils import load_image
    from transformers.vision_utils import get_vision_cu_seqlens, get_vision_window_index
    checkpoint = folder / "checkpoint"
    processor = AutoProcessor.from_pretrained(checkpoint)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation="eager").eval()
    urls = [part["image_url"]["url"] for chat in chats for message in chat if not isinstance(message["content"], str)
            for part in message["content"] if part["type"] == "image_url"]
    pictures = [load_image(str(folder / url)) for url in urls]
    generate = case.get("generate")
    prompts = [processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=bool(generate)) for chat in chats]
    counts = [sum(part.get("type") == "image_url" for m in chat if not isinstance(m["content"], str) for part in m["content"])
              for chat in chats]
    rest = iter(pictures)
    nested = [[next(rest) for _ in range(count)] for count in counts]
    processor.tokenizer.padding_side = case.get("pad", "right")
    padding = dict(padding=True) if len(chats) > 1 else {}
    x = dict(processor(text=prompts, images=nested if pictures else None, return_tensors="pt", **padding))
    out, one = {}, (lambda t: t) if len(chats) > 1 else (lambda t: t[0])
    out["input_ids"], out["attention_mask"] = one(x["input_ids"]), one(x["attention_mask"])
    positions = None
    if pictures:
        out["image_grid_thw"], out["pixel_values"] = x["image_grid_thw"], x["pixel_values"]
        vision = model.config.vision_config
        out["vision.window_index"], out["vision.cu_window_seqlens"] = get_vision_window_index(
            x["image_grid_thw"], vision.spatial_merge_size, vision.window_size, vision.patch_size)
        out["vision.cu_seqlens"] = get_vision_cu_seqlens(x["image_grid_thw"])
        positions, _ = model.model.get_rope_index(x["input_ids"], mm_token_type_ids=x["mm_token_type_ids"],
                                                  image_grid_thw=x["image_grid_thw"], attention_mask=x["attention_mask"])
        if len(chats) == 1:
            out["position_ids"] = positions[:, 0]
        for i, (image, grid) in enumerate(zip(pictures, x["image_grid_thw"].tolist())):
            height, width = 14 * grid[1], 14 * grid[2]
            shown = image.resize((width, image.height), Image.BICUBIC).resize((width, height), Image.BICUBIC)
            out[f"image.{i}.resized_pil_hfirst"] = torch.from_numpy(np.array(shown))
    seen = {}
    note = lambda name: lambda _m, _i, o: seen.__setitem__(name, (o[0] if isinstance(o, tuple) else o).detach())
    language, tower = model.model.language_model, model.model.visual
    stages = [(f"hidden.{i}", layer) for i, layer in enumerate(language.layers)] + [("hidden.norm", language.norm)]
    if pictures:
        stages += [(f"vision.block.{i}", block) for i, block in enumerate(tower.blocks)]
        stages += [("vision.patch_embed", tower.patch_embed)]
    hooks = [module.register_forward_hook(note(name)) for name, module in stages]
    with torch.no_grad():
        result = model(**x, output_attentions=True, use_cache=False)
        if pictures:
            out["image_embeds"] = torch.cat(tuple(model.model.get_image_features(x["pixel_values"], x["image_grid_thw"]).pooler_output))
    for hook in hooks:
        hook.remove()
    out.update({name: tensor if name.startswith("vision.") else one(tensor) for name, tensor in seen.items()})
    logp = torch.log_softmax(result.logits, -1)
    out["logits"], out["entropy"] = one(result.logits), one(-(logp.exp() * logp).sum(-1))
    out["logprobs"] = one(logp[:, :-1].gather(-1, x["input_ids"][:, 1:, None])[..., 0])
    if len(chats) == 1:
        out["attn_last_sum"] = torch.stack([layer.sum(1)[0, -1] for layer in result.attentions])
    noise = 0.0
    if case.get("pad") != "left":
        with torch.no_grad():
            double = model.double()(**{k: v.double() if v.is_floating_point() else v for k, v in x.items()}, use_cache=False)
        valid = x["attention_mask"].bool()
        noise = float((double.logits - result.logits)[valid].abs().max())
        model.float()
    if generate:
        from transformers import GenerationConfig
        model.generation_config = GenerationConfig(max_new_tokens=generate, do_sample=False, eos_token_id=None, pad_token_id=0)
        with torch.no_grad():
            out["generated_ids"] = model.generate(**x)[0, x["input_ids"].shape[1]:]
    grads = {}
    if case.get("gradients"):
        logits = model(**x, use_cache=False).logits
        torch.nn.functional.cross_entropy(logits[0, :-1], x["input_ids"][0, 1:]).backward()
        grads = {hub_name(k): p.grad.numpy() for k, p in model.named_parameters() if p.grad is not None}
    return {name: t.detach().contiguous().numpy() for name, t in out.items()}, grads, noise


def real(tensors, name):
    """Rows of a padded batch that are no padding; ours stand in front, transformers' may stand behind."""
    values, mask = tensors[name], tensors["attention_mask"].astype(bool)
    if mask.ndim == 1 or name.startswith(("vision.", "image", "pixel")):
        return values
    keep = mask[:, :-1] & mask[:, 1:] if name == "logprobs" else mask
    return np.concatenate([row[k] for row, k in zip(values, keep)])


EXACT = ("input_ids", "position_ids", "image_grid_thw", "vision.window_index", "vision.cu_seqlens",
         "vision.cu_window_seqlens", "generated_ids")
DISTRIBUTIONS = ("logits", "logprobs", "entropy")


def compare(theirs, ours, grads, noise, whole=False):
    """Largest difference of each kind, and the kinds that are beyond their bound; `whole`: every name must be in ours."""
    worst = dict(ids=0, resized=0, stages=0.0, logits=0.0, attn=0.0, grads=0.0)
    batch = theirs["input_ids"].ndim == 2
    for name in theirs:
        if name in ("attention_mask", "pixel_values") or not (name in ours or name.endswith("resized_pil_hfirst")):
            if whole and name not in ours:
                worst["ids"] = f"{name} is missing"
            continue
        if name.endswith(".resized"):
            continue
        if name.endswith("resized_pil_hfirst"):
            shown = ours[name.replace("resized_pil_hfirst", "resized")].astype(int)
            worst["resized"] = max(worst["resized"], int(np.abs(shown - theirs[name].astype(int)).max()))
            continue
        if batch and name in ("position_ids", "attn_last_sum"):
            continue
        a, b = real(ours, name), real(theirs, name)
        if a.shape != b.shape:
            worst["ids"] = f"{name}: {a.shape} for {b.shape}"
            continue
        difference = float(np.abs(a.astype(np.float64) - b).max()) if a.size else 0.0
        if name in EXACT:
            worst["ids"] = max(worst["ids"], difference)
        elif name in DISTRIBUTIONS:
            worst["logits"] = max(worst["logits"], difference)
        elif name == "attn_last_sum":
            worst["attn"] = max(worst["attn"], difference)
        elif name.startswith(("vision.block", "vision.patch", "hidden.", "image_embeds", "inputs_embeds")):
            worst["stages"] = max(worst["stages"], difference / float(np.abs(b).max()))
    for name, b in grads.items():
        error = np.linalg.norm(ours[f"grad.{name}"].astype(np.float64) - b) / np.linalg.norm(b)
        worst["grads"] = max(worst["grads"], float(error))
    bounds = dict(ids=0, resized=0, stages=2e-4, logits=max(2e-4, 4 * noise), attn=1e-4, grads=1e-3)
    beyond = [kind for kind, bound in bounds.items() if isinstance(worst[kind], str) or worst[kind] > bound]
    return worst, beyond


def run(binary, folder, theirs, case, checkpoint):
    with tempfile.TemporaryDirectory() as scratch:
        out, pixels = f"{scratch}/out.safetensors", f"{scratch}/pixels.safetensors"
        command = [binary, "forward", "--model", checkpoint, "--messages", folder / "messages.json", "--out", out, "--attention"]
        if "pixel_values" in theirs:
            save_file({"pixel_values": theirs["pixel_values"]}, pixels)
            command += ["--pixels", pixels]
        if "generated_ids" in theirs:
            command += ["--generate", str(len(theirs["generated_ids"]))]
        if case.get("gradients"):
            command.append("--gradients")
        subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
        return load_file(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--binary", default=ROOT / "target/release/imagent")
    parser.add_argument("--only")
    parser.add_argument("--folder", type=pathlib.Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows, failed = {}, []

    def add(name, worst, beyond, label):
        failed.extend(f"{label}: {kind} {worst[kind]}" for kind in beyond)
        old = rows.setdefault(name, worst)
        words = lambda kind: next((value for value in (worst[kind], old[kind]) if isinstance(value, str)), None)
        rows[name] = {kind: words(kind) or max(old[kind], worst[kind]) for kind in worst}

    if args.folder:
        for folder in sorted(path.parent for path in args.folder.glob("*/golden.safetensors")):
            theirs = load_file(folder / "golden.safetensors")
            manifest = json.loads((folder / "manifest.json").read_text())
            grads = load_file(folder / "grads.safetensors") if (folder / "grads.safetensors").is_file() else {}
            if "image.0.rgb_pil_object" in theirs:  # pictures that transformers composites are compared by bytes only
                theirs.pop("image.1.resized_pil_hfirst", None)
            ours = run(args.binary, folder, theirs, dict(gradients=bool(grads)), folder / "checkpoint")
            add(folder.name, *compare(theirs, ours, grads, manifest.get("noise_max_abs_logit") or 0.0), folder.name)
    else:
        chosen = {name: case for name, case in CASES.items() if args.only in (None, name)}
        for seed in map(int, args.seeds.split(",")):
            for number, (name, case) in enumerate(chosen.items()):
                with tempfile.TemporaryDirectory() as scratch:
                    folder, rng = pathlib.Path(scratch), random.Random(f"{seed} {name}")
                    make_checkpoint(folder / "checkpoint", case, rng, 1000 * seed + number)
                    chats = conversations(case, rng, save_pictures(folder, case, rng))
                    write_json(folder / "messages.json", chats if len(chats) > 1 else chats[0])
                    theirs, grads, noise = golden(folder, case, chats)
                    ours = run(args.binary, folder, theirs, case, folder / "checkpoint")
                    add(name, *compare(theirs, ours, grads, noise, whole=True), f"seed {seed}, {name}")
                    print(f"seed {seed}: {name}", file=sys.stderr, flush=True)
    kinds = ["ids", "resized", "stages", "logits", "attn", "grads"]
    print("| case | " + " | ".join(kinds) + " |\n|---|" + "---|" * len(kinds))
    for name, worst in rows.items():
        none = lambda kind: "–" if kind in ("attn", "grads") else "0"
        shown = [str(worst[k]) if isinstance(worst[k], str) else f"{worst[k]:.1e}" if worst[k] else none(k) for k in kinds]
        print(f"| {name} | " + " | ".join(shown) + " |")
    for line in failed:
        print("beyond its bound:", line)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
