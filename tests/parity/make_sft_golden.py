#!/usr/bin/env python3
"""The loss of a supervised batch, by transformers: `make_sft_golden.py` writes `sft/` beside it.

`sft/samples.jsonl` is a dataset folder of four conversations: several turns with images in the first and in a later one, a system message, no
image marks at all, and two images in one turn. Image sides are multiples of 28, so that no resize has a part in it. The
model is that of `single_image`. `sft/golden.json` holds, of the whole batch padded on the right: the loss that
`Qwen2_5_VLForConditionalGeneration` computes with labels on the assistant's turns (end tokens included), the norm of its
gradient, and of each conversation the ids, the labelled positions and their log-probabilities.
Made with transformers 5.23 and torch 2.15, float32, eager attention.
"""
import json
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import numpy as np
import torch
from PIL import Image
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

HERE = Path(__file__).parent
OUT = HERE / "sft"
CHECKPOINT = HERE / "single_image" / "checkpoint"

ANSWER = '<answer>{"image": 2, "bbox_2d": [3, 5, 30, 44]}</answer>'
SAMPLES = [
    ("two-turns", ["a", "b", "c"], [
        ("user", "<image><image>Which of the images shows the clock?"),
        ("assistant", '<think>I zoom in.</think>\n<tool_call>\n{"name": "zoom_in", "arguments": {"image": 1}}\n</tool_call>'),
        ("user", "<tool_response><image></tool_response>"),
        ("assistant", f"<think>It is the second image.</think>{ANSWER}"),
    ]),
    ("system", ["b"], [
        ("system", "You compare images."),
        ("user", "<image>Is it  red?\n"),
        ("assistant", "yes"),
        ("user", "And the other one?"),
        ("assistant", "<think>There is no other.</think><answer>no</answer>"),
    ]),
    ("no-marks", ["a"], [("user", "What is written on the sign?"), ("assistant", " 7:30, and it's\nlate ")]),
    ("between", ["c", "c"], [("user", "First <image> then <image>, what differs?"), ("assistant", "Nothing.")]),
]


def pictures():
    (OUT / "images").mkdir(parents=True, exist_ok=True)
    for seed, (name, size) in enumerate({"a": (84, 56), "b": (56, 56), "c": (56, 112)}.items()):
        noise = np.random.default_rng(seed).integers(0, 256, (size[1] // 7, size[0] // 7, 3), dtype=np.uint8)
        Image.fromarray(noise).resize(size, Image.NEAREST).save(OUT / "images" / f"{name}.png")


def rows():
    for name, images, turns in SAMPLES:
        yield {
            "id": name,
            "images": [f"images/{image}.png" for image in images],
            "question": next(text for role, text in turns if role == "user").replace("<image>", ""),
            "answer": turns[-1][1],
            "meta": {"conversation": [{"role": role, "content": text} for role, text in turns]},
        }


def messages(images, turns):
    marks = sum(text.count("<image>") for _, text in turns)
    asked = False
    for role, text in turns:
        parts = []
        for nth, piece in enumerate(text.split("<image>")):
            parts += [{"type": "image"}] * (nth > 0) + ([{"type": "text", "text": piece}] if piece else [])
        if role == "user" and not asked:
            asked = True
            parts = [{"type": "image"}] * (len(images) if marks == 0 else 0) + parts
        yield {"role": role, "content": parts}


def labelled(ids, start, end, assistant):
    """Positions from behind each `<|im_start|>assistant\\n` to its `<|im_end|>`."""
    found, i = [], 0
    while i < len(ids):
        if ids[i:i + 1 + len(assistant)] == [start, *assistant]:
            i += 1 + len(assistant)
            while True:
                found.append(i)
                i += 1
                if ids[i - 1] == end:
                    break
        else:
            i += 1
    return found


def main():
    pictures()
    with open(OUT / "samples.jsonl", "w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows())
    processor = AutoProcessor.from_pretrained(CHECKPOINT)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(CHECKPOINT, dtype=torch.float32, attn_implementation="eager")
    model.eval()
    tokenizer = processor.tokenizer
    tokenizer.padding_side = "right"
    texts = [processor.apply_chat_template(list(messages(i, t)), tokenize=False) for _, i, t in SAMPLES]
    images = [[Image.open(OUT / "images" / f"{image}.png") for image in images] for _, images, _ in SAMPLES]
    batch = processor(text=texts, images=images, padding=True, return_tensors="pt", return_mm_token_type_ids=True)
    start, end = (tokenizer.convert_tokens_to_ids(token) for token in ("<|im_start|>", "<|im_end|>"))
    assistant = tokenizer.encode("assistant\n", add_special_tokens=False)
    labels = torch.full_like(batch["input_ids"], -100)
    taught = []
    for row, ids in enumerate(batch["input_ids"].tolist()):
        used = int(batch["attention_mask"][row].sum())
        taught.append(labelled(ids[:used], start, end, assistant))
        labels[row, taught[-1]] = batch["input_ids"][row, taught[-1]]
    out = model(**batch, labels=labels)
    out.loss.backward()
    squares = sum(float(p.grad.double().pow(2).sum()) for p in model.parameters() if p.grad is not None)
    logprobs = torch.log_softmax(out.logits.detach().float(), -1)
    conversations = []
    for row, (name, _, _) in enumerate(SAMPLES):
        last = taught[row][-1] + 1
        ids = batch["input_ids"][row].tolist()
        values = [float(logprobs[row, p - 1, ids[p]]) for p in taught[row]]
        conversations.append({"id": name, "ids": ids[:last], "taught": taught[row], "logprobs": values})
    golden = {"loss": float(out.loss.detach()), "grad_norm": squares ** 0.5, "conversations": conversations}
    (OUT / "golden.json").write_text(json.dumps(golden) + "\n")
    print(golden["loss"], golden["grad_norm"], sum(map(len, taught)))


if __name__ == "__main__":
    main()
