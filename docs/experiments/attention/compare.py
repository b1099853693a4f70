"""Puts the attention.json files of several models into tables.

    python3 compare.py runs/attention base-both both-{1,2,3,4,5} ...
    python3 compare.py --paired runs/attention look-back-base-called look-back-base-grey

The first: the share of attention on the prompt's images, on images that tools returned, and on both, in the first and in the last turn; mean
over layers, tokens of the turn and samples. Names that differ in a trailing -NUMBER are seeds of one row. Intervals are 95 % by
Student's t over seeds; of a single file, over samples. With `--called` only samples with a second turn count.

The second: the second turn of two files, sample by sample, where the first turn says the same in both and names an image; the difference
with its interval over samples.
"""

import json
import math
import re
import sys
from pathlib import Path

T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
COLUMNS = [
    ("prompt's images", ("image",)),
    ("returned images", ("observation_image",)),
    ("all images", ("image", "observation_image")),
]


def interval(values):
    """`mean [low, high]` in per cent, by Student's t; the mean alone of one value."""
    if not values:
        return "–"
    n = len(values)
    mean = sum(values) / n
    if n < 2:
        return f"{100 * mean:.1f}"
    spread = math.sqrt(sum((x - mean) ** 2 for x in values) / (n - 1))
    half = T.get(n - 1, 1.96) * spread / math.sqrt(n)
    return f"{100 * mean:.1f} [{100 * (mean - half):.1f}, {100 * (mean + half):.1f}]"


def share(sample, turn, wanted):
    """Attention of a turn's tokens on the parts that are wanted: mean over layers and tokens."""
    parts = [i for i, part in enumerate(sample["parts"]) if wanted(part)]
    tokens = [i for i, token in enumerate(sample["tokens"]) if token["turn"] == turn]
    values = [sum(layer["shares"][t][p] for p in parts) for layer in sample["layers"] for t in tokens]
    return sum(values) / len(values)


def turns(sample):
    return max(token["turn"] for token in sample["tokens"])


def read(path):
    return [sample for sample in json.loads(path.read_text())["samples"] if sample["tokens"]]


def figures(path, called_only):
    """For each column its values by sample."""
    samples = read(path)
    chosen = [s for s in samples if turns(s) > 1 or not called_only]
    out = {"called": [float(turns(s) > 1) for s in samples]}
    for name, kinds in COLUMNS:
        if name != "returned images":
            out[f"{name}, first turn"] = [share(s, 1, lambda p: p["kind"] in kinds) for s in chosen]
        out[f"{name}, last turn"] = [share(s, turns(s), lambda p: p["kind"] in kinds) for s in chosen]
    return out


def by_model(root, names, called_only):
    rows = {}
    for name in names:
        rows.setdefault(re.sub(r"-\d+$", "", name), []).append(figures(root / name / "attention.json", called_only))
    header = list(next(iter(rows.values()))[0])
    print("| model and tools | " + " | ".join(header) + " |")
    print("|---" * (len(header) + 1) + "|")
    for name, files in rows.items():
        values = [files[0][c] if len(files) == 1 else [sum(f[c]) / len(f[c]) for f in files] for c in header]
        print(f"| {name} | " + " | ".join(map(interval, values)) + " |")


def first_turn(sample):
    return "".join(token["text"] for token in sample["tokens"] if token["turn"] == 1)


def paired(root, first, second):
    ours, others = ({s["sample"]: s for s in read(root / name / "attention.json")} for name in (first, second))
    pairs = []
    for name, one in ours.items():
        other, image = others.get(name), re.search(r'"image": (\d+)', first_turn(one))
        if other and image and turns(one) == turns(other) == 2 and first_turn(one) == first_turn(other):
            pairs.append((one, other, int(image[1])))
    print(f"{len(pairs)} samples\n\n| attention in the second turn on | {first} | {second} | difference |\n|---|---|---|---|")
    kinds = [
        ("the image named in the call, in the prompt", lambda p, k: p["kind"] == "image" and p["image"] == k),
        ("the prompt's other images", lambda p, k: p["kind"] == "image" and p["image"] != k),
        ("the returned image", lambda p, k: p["kind"] == "observation_image"),
        ("all images", lambda p, k: p["kind"] in ("image", "observation_image")),
    ]
    for label, wanted in kinds:
        both = [(share(a, 2, lambda p: wanted(p, k)), share(b, 2, lambda p: wanted(p, k))) for a, b, k in pairs]
        columns = [[a for a, _ in both], [b for _, b in both], [a - b for a, b in both]]
        print(f"| {label} | " + " | ".join(map(interval, columns)) + " |")


def main():
    options = {a for a in sys.argv[1:] if a.startswith("--")}
    root, *names = [a for a in sys.argv[1:] if a not in options]
    if "--paired" in options:
        paired(Path(root), *names)
    else:
        by_model(Path(root), names, "--called" in options)


if __name__ == "__main__":
    main()
