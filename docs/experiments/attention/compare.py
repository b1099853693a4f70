"""Puts the attention.json files of several models into one table.

    python3 compare.py runs/attention base-both both-{1,2,3,4,5} ...

Names that differ in a trailing -NUMBER are seeds of one row. A row has the share of attention on the prompt's images, on images that
tools returned, and on both, in the first and in the last turn: mean over layers, tokens of the turn and samples. Intervals are 95 % by
Student's t over seeds; of a single file, over samples. With `--called` only samples with a second turn count.
"""

import json
import math
import re
import sys
from pathlib import Path

T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


def interval(values):
    """Mean and half width of the 95 % interval by Student's t; no width for one value."""
    n = len(values)
    mean = sum(values) / n
    if n < 2:
        return mean, None
    spread = math.sqrt(sum((x - mean) ** 2 for x in values) / (n - 1))
    return mean, T.get(n - 1, 1.96) * spread / math.sqrt(n)


def shares(sample, turn, kinds):
    """Attention of a turn's tokens on parts of these kinds: mean over layers and tokens."""
    parts = [i for i, part in enumerate(sample["parts"]) if part["kind"] in kinds]
    tokens = [i for i, token in enumerate(sample["tokens"]) if token["turn"] == turn]
    values = [sum(layer["shares"][t][p] for p in parts) for layer in sample["layers"] for t in tokens]
    return sum(values) / len(values)


COLUMNS = [
    ("prompt's images", ("image",)),
    ("returned images", ("observation_image",)),
    ("all images", ("image", "observation_image")),
]


def figures(path, called_only):
    """For each column its values by sample, of the first and of the last turn."""
    samples = [s for s in json.loads(path.read_text())["samples"] if s["tokens"]]
    last = {s["sample"]: max(token["turn"] for token in s["tokens"]) for s in samples}
    chosen = [s for s in samples if last[s["sample"]] > 1 or not called_only]
    out = {"called": [float(last[s["sample"]] > 1) for s in samples]}
    for name, kinds in COLUMNS:
        if name != "returned images":
            out[f"{name}, first turn"] = [shares(s, 1, kinds) for s in chosen]
        out[f"{name}, last turn"] = [shares(s, last[s["sample"]], kinds) for s in chosen]
    return out


def text(values_by_file):
    """`mean [low, high]` in per cent."""
    if any(not values for values in values_by_file):
        return "–"
    means = [sum(values) / len(values) for values in values_by_file]
    mean, half = interval(means if len(means) > 1 else values_by_file[0])
    return f"{100 * mean:.1f}" + (f" [{100 * (mean - half):.1f}, {100 * (mean + half):.1f}]" if half is not None else "")


def main():
    arguments = [a for a in sys.argv[1:] if a != "--called"]
    called_only = "--called" in sys.argv
    root, rows = Path(arguments[0]), {}
    for name in arguments[1:]:
        rows.setdefault(re.sub(r"-\d+$", "", name), []).append(figures(root / name / "attention.json", called_only))
    header = list(next(iter(rows.values()))[0])
    print("| model and tools | " + " | ".join(header) + " |")
    print("|---" * (len(header) + 1) + "|")
    for name, files in rows.items():
        print(f"| {name} | " + " | ".join(text([file[column] for file in files]) for column in header) + " |")


if __name__ == "__main__":
    main()
