"""Predicted beside measured: the time of a step, and the arena's high water, for points of the frontier.

usage: python3 tests/bench/frontier_time.py BUILD [--points 6 --rounds 25] [-- WIDERESNET AND OPTIONS OF frontier]
BUILD has tools/thimble and tests/bench/alternate_steps. All points train a step in turn, the fastest plan first, ROUNDS
times. A measured overhead is the median of the rounds' ratios to the fastest plan's step of the same round; times are
medians. Exits 1 where a high water is not the planned arena.
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
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build", type=pathlib.Path)
    for name, value in (("points", 6), ("rounds", 25)):
        parser.add_argument("--" + name, type=int, default=value)
    own = sys.argv[1:]
    model = ["wrn-28-2", "--batch", "100"]
    if "--" in own:
        own, model = own[:own.index("--")], own[own.index("--") + 1:]
    arguments = parser.parse_args(own)
    thimble = arguments.build / "tools" / "thimble"
    points = json.loads(run(thimble, "frontier", *model, "--json", "--points", arguments.points))["points"]
    with tempfile.TemporaryDirectory() as folder:
        plans = [pathlib.Path(folder, f"{i}.json") for i in range(len(points))]
        for point, plan in zip(points, plans):
            run(thimble, "plan", *model, "--data", "synthetic", "--budget", point["arena_bytes"], "-o", plan)
        lines = run(arguments.build / "tests" / "bench" / "alternate_steps", arguments.rounds, *plans).splitlines()
    measured = [json.loads(line) for line in lines]
    print(f"{'arena bytes':>12} {'microbatch':>10} {'recomputed':>10} {'predicted':>16} {'measured':>16} {'difference':>10}")
    for point, seen in zip(points, measured):
        predicted_over = 100 * (point["predicted_ms"] / points[0]["predicted_ms"] - 1)
        ratios = [own / first for own, first in zip(seen["milliseconds"], measured[0]["milliseconds"])]
        over = 100 * (statistics.median(ratios) - 1)
        print(f"{point['arena_bytes']:>12} {point['microbatch']:>10} {point['recompute_percent']:>8.1f} % "
              f"{point['predicted_ms']:>6.0f} ms {predicted_over:>+5.1f} % "
              f"{statistics.median(seen['milliseconds']):>6.0f} ms {over:>+5.1f} % {over - predicted_over:>+8.1f}")
    exact = all(seen["high_water_bytes"] == seen["arena_bytes"] == point["arena_bytes"]
                for point, seen in zip(points, measured))
    print("every high water was the planned arena" if exact else "a high water was not the planned arena")
    return 0 if exact else 1


if __name__ == "__main__":
    sys.exit(main())
