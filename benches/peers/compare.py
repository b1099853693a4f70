"""imagent and the tools people use now, side by side on this machine: the same model, prompts, group size and tokens.

    python3 -m venv peers && peers/bin/pip install -r benches/peers/requirements.txt
    peers/bin/python benches/peers/compare.py [--rounds 3]

Programs take turns, one at a time, and ratios are of the medians over rounds. A machine with other work on it gives
figures about that work.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def lines(*command):
    """The lines of JSON that a program prints."""
    done = subprocess.run([str(part) for part in command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{command[0]} failed:\n{done.stderr[-3000:]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def bench(name, *arguments):
    return lines("cargo", "bench", "--quiet", "--bench", name, "--", *arguments)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--micro", type=int, default=16, help="rows of TRL's micro-batches; 16 was its fastest")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    bench("step", "--write", folder, "--steps", args.steps)
    ours, theirs, stages, peer_stages = [], [], [], []
    for _ in range(args.rounds):
        ours += bench("step", "--json", "--steps", args.steps)
        theirs += lines(sys.executable, HERE / "trl_step.py", folder, "--steps", args.steps, "--micro", args.micro)
        stages += bench("limits", "--json")
        peer_stages += lines(sys.executable, HERE / "hf_stages.py", folder)

    def of(rows, key):
        return statistics.median(row[key] for row in rows)

    print(f"{theirs[0]['peer']}: {theirs[0]['parameters']} parameters, {theirs[0]['rows']} rows of {theirs[0]['tokens']} tokens; "
          f"here {ours[0]['parameters']}, {ours[0]['rows']} of {ours[0]['tokens']}; {args.rounds} rounds")
    print("| | imagent | peer | ratio |\n|---|---|---|---|")
    print(f"| GRPO step, s | {of(ours, 'step_s'):.3f} | {of(theirs, 'step_s'):.3f} | {of(theirs, 'step_s') / of(ours, 'step_s'):.1f} |")
    print(f"| its peak memory, MiB | {of(ours, 'peak_mib'):.0f} | {of(theirs, 'peak_mib'):.0f} | 1/{of(theirs, 'peak_mib') / of(ours, 'peak_mib'):.1f} |")
    for name in dict.fromkeys(row["name"] for row in peer_stages):
        mine = [row for row in stages if row["name"] == name]
        other = [row for row in peer_stages if row["name"] == name]
        if mine:
            a, b = of(mine, "rate"), of(other, "rate")
            print(f"| {name}, {other[0]['unit']}/s | {a:.0f} | {b:.0f} | {a / b:.1f} |")


if __name__ == "__main__":
    main()
