"""Predicted beside measured: the time of a step, and the arena's high water, for points of the frontier.

usage: python3 tests/bench/frontier_time.py THIMBLE [--points 6 --steps 6 --rounds 3] [-- MODEL AND OPTIONS OF frontier]
Every round trains all points one after the other, the fastest plan first. Overheads are of medians over the rounds, in
percent of the fastest plan's time. Exits 1 where a high water is not the planned arena.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # waiting threads would take the cores of what is measured


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def train(thimble, model, budget, steps, folder):
    """Milliseconds of the median step behind the first, and whether the high water was the arena within the budget."""
    run(thimble, "train", *model, "--budget", str(budget), "--data", "synthetic", "--steps", str(steps), "--out", folder)
    lines = [json.loads(line) for line in pathlib.Path(folder, "metrics.jsonl").read_text().splitlines()]
    batch = json.loads(pathlib.Path(folder, "plan.json").read_text())["batch"]
    speeds = [line["images_per_second"] for line in lines[1:] if "loss" in line]
    high_water, arena = lines[-1]["arena_high_water_bytes"], lines[-1]["arena_bytes"]
    return 1e3 * batch / statistics.median(speeds), high_water == arena <= budget


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("thimble")
    for name, value in (("points", 6), ("steps", 6), ("rounds", 3)):
        parser.add_argument("--" + name, type=int, default=value)
    own = sys.argv[1:]
    model = ["wrn-28-2", "--batch", "100"]
    if "--" in own:
        own, model = own[:own.index("--")], own[own.index("--") + 1:]
    arguments = parser.parse_args(own)
    thimble = arguments.thimble
    curve = json.loads(run(thimble, "frontier", *model, "--json", "--points", str(arguments.points)))["points"]
    exact = True
    with tempfile.TemporaryDirectory() as folder:
        times = [[] for _ in curve]
        for round_ in range(arguments.rounds):
            for i, point in enumerate(curve):
                run_folder = os.path.join(folder, f"{i}-{round_}")
                milliseconds, as_planned = train(thimble, model, point["arena_bytes"], arguments.steps, run_folder)
                times[i].append(milliseconds)
                exact &= as_planned
    print(f"{'arena bytes':>12} {'microbatch':>10} {'recomputed':>10} {'predicted':>16} {'measured':>16} {'difference':>10}")
    first = statistics.median(times[0])
    for point, measured in zip(curve, times):
        ours = statistics.median(measured)
        predicted_over = 100 * (point["predicted_ms"] / curve[0]["predicted_ms"] - 1)
        over = 100 * (ours / first - 1)
        print(f"{point['arena_bytes']:>12} {point['microbatch']:>10} {point['recompute_percent']:>8.1f} % "
              f"{point['predicted_ms']:>6.0f} ms {predicted_over:>+5.1f} % {ours:>6.0f} ms {over:>+5.1f} % {over - predicted_over:>+8.1f}")
    print("every high water was the planned arena" if exact else "a high water was not the planned arena")
    return 0 if exact else 1


if __name__ == "__main__":
    sys.exit(main())
