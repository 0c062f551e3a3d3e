"""Images per second of one training step, ours beside PyTorch's on the same CPU: pairs of runs, one after the other.

usage: /usr/bin/python3 tests/bench/train_speed.py THIMBLE [--depth 28 --width 2 --batch 100 --steps 8 --pairs 5 --threads 2]
Prints a line a pair and the median of the ratios (above 1: ours is faster). Both train fp32 with Nesterov momentum on
pictures in memory; the first step of every run is not counted.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # a waiting thread of one side would take a core of the other
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "models"))

import torch
import torch.nn.functional as F

from pytorch_oracle import WideResNet


def fresh_tensors(depth, width):
    """Named and shaped as thimble names and shapes them; values do not matter for speed, scales do not explode."""
    tensors = {"stem.weight": torch.randn(16, 3, 3, 3) * 0.2}

    def norm(name, channels):
        tensors[name + ".weight"], tensors[name + ".bias"] = torch.ones(channels), torch.zeros(channels)
        tensors[name + ".running_mean"], tensors[name + ".running_variance"] = torch.zeros(channels), torch.ones(channels)

    def conv(name, into, out, kernel):
        tensors[name + ".weight"] = torch.randn(out, into, kernel, kernel) * (2 / (kernel * kernel * out)) ** 0.5

    channels, number = 16, 0
    for group in range(3):
        out = 16 * width << group
        for _ in range((depth - 4) // 6):
            name = f"block{number}"
            norm(name + ".bn1", channels)
            conv(name + ".conv1", channels, out, 3)
            norm(name + ".bn2", out)
            conv(name + ".conv2", out, out, 3)
            if channels != out:
                conv(name + ".shortcut", channels, out, 1)
            channels, number = out, number + 1
    norm("final.bn", channels)
    tensors["classifier.weight"], tensors["classifier.bias"] = torch.randn(10, channels) * 0.1, torch.zeros(10)
    return tensors


def pytorch_speed(options, memory_format):
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    model = WideResNet({n: t.to(memory_format=memory_format) if t.dim() == 4 else t
                        for n, t in fresh_tensors(options.depth, options.width).items()}, options.depth, options.width)
    optimizer = torch.optim.SGD(model.weights.values(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)
    images = torch.randn(options.batch, 3, 32, 32).to(memory_format=memory_format)
    labels = torch.randint(10, (options.batch,))
    seconds = []
    for _ in range(options.steps):
        start = time.perf_counter()
        loss = F.cross_entropy(model.forward(images), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    return options.batch / statistics.median(seconds[1:])


def thimble_speed(options):
    out = subprocess.run([options.thimble, "train", "wrn", "--depth", str(options.depth), "--width", str(options.width),
                          "--batch", str(options.batch), "--threads", str(options.threads), "--data", "synthetic",
                          "--steps", str(options.steps), "--lr", "0.01", "--json"],
                         check=True, capture_output=True, text=True).stdout
    return json.loads(out)["images_per_second"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("thimble")
    for name, value in (("depth", 28), ("width", 2), ("batch", 100), ("steps", 8), ("pairs", 5), ("threads", 2)):
        parser.add_argument("--" + name, type=int, default=value)
    options = parser.parse_args()
    # The peer is whichever layout PyTorch is faster in.
    layouts = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}
    first = {name: pytorch_speed(options, layout) for name, layout in layouts.items()}
    best = max(first, key=first.get)
    print(f"PyTorch {torch.__version__}: " + ", ".join(f"{n} {v:.1f} images/s" for n, v in first.items()))
    ratios = []
    for pair in range(options.pairs):
        ours, theirs = thimble_speed(options), pytorch_speed(options, layouts[best])
        ratios.append(ours / theirs)
        print(f"pair {pair + 1}: thimble {ours:.1f}, PyTorch ({best}) {theirs:.1f} images/s, ratio {ratios[-1]:.3f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.3f} over {options.pairs} pairs, batch {options.batch}, {options.threads} threads")


if __name__ == "__main__":
    main()
