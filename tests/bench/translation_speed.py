"""Target tokens per second of one DynamicConv training step, ours beside PyTorch's on the same CPU, in pairs.

usage: /usr/bin/python3 tests/bench/translation_speed.py BUILD [--sentences 25 --room 40 --steps 4 --pairs 3 --threads 2]
BUILD is the build folder that holds tests/bench/translation_step. Prints a line a pair and the median of the ratios (above
1: ours is faster). Both train the recipe's model in fp32 with Adam and dropout on random sentences that fill their room; the
first step of every run is not counted. The peer's convolutions are fairseq's band matrices and batched products; it needs
an optimised BLAS (libopenblas0-openmp).
"""

import argparse
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # a waiting thread of one side would take a core of the other
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "models"))

import torch
import torch.nn.functional as F

from dynamic_conv_oracle import Model

ENCODER, DECODER = (3, 7, 15, 31, 31, 31, 31), (3, 7, 15, 31, 31, 31)
CHANNELS, HIDDEN, HEADS, SOURCE, TARGET = 512, 1024, 4, 8848, 6632


def fresh_weights():
    """Named and shaped as thimble names and shapes them."""
    shapes = {"encoder.embedding.weight": (SOURCE, CHANNELS), "decoder.embedding.weight": (TARGET, CHANNELS),
              "decoder.output.weight": (TARGET, CHANNELS)}

    def linear(name, outputs, inputs, bias=True):
        shapes[name + ".weight"] = (outputs, inputs)
        if bias:
            shapes[name + ".bias"] = (outputs,)

    def norm(name):
        shapes[name + ".weight"] = shapes[name + ".bias"] = (CHANNELS,)

    for side, kernels in (("encoder", ENCODER), ("decoder", DECODER)):
        for i, kernel in enumerate(kernels):
            layer = f"{side}.layer{i}"
            linear(layer + ".conv.in", CHANNELS, CHANNELS)
            linear(layer + ".conv.taps", HEADS * kernel, CHANNELS, bias=False)
            linear(layer + ".conv.out", CHANNELS, CHANNELS)
            norm(layer + ".conv.norm")
            if side == "decoder":
                for part in ("query", "key", "value", "out"):
                    linear(f"{layer}.attention.{part}", CHANNELS, CHANNELS)
                norm(layer + ".attention.norm")
            linear(layer + ".feed_forward.in", HIDDEN, CHANNELS)
            linear(layer + ".feed_forward.out", CHANNELS, HIDDEN)
            norm(layer + ".feed_forward.norm")
    weights = {}
    for name, shape in shapes.items():
        one = torch.randn(shape) * shape[-1] ** -0.5 if len(shape) == 2 else torch.zeros(shape)
        if ".norm.weight" in name:
            one = torch.ones(shape)
        weights[name] = one.requires_grad_()
    return weights


class Trained(Model):
    """The oracle's model with dropout where the recipe has it, and band matrices."""

    def drop(self, x, rate):
        return F.dropout(x, rate)

    def linear(self, name, x):
        y = super().linear(name, x)
        return self.drop(y, 0.3) if name.endswith(".out") else y

    def embed(self, name, ids, mask):
        return self.drop(super().embed(name, ids, mask), 0.3)

    def convolve(self, name, x, mask, causal):
        x = self.linear(name + ".in", x) * mask[:, :, None]
        return self.linear(name + ".out", self.band_products(x, self.w[name + ".taps.weight"], causal))

    def band_products(self, x, taps, causal):
        sentences, room, channels = x.shape
        kernel = taps.shape[0] // self.heads
        weights = self.drop(torch.softmax(F.linear(x, taps).view(sentences, room, self.heads, kernel), -1), 0.1)
        weights = weights.transpose(1, 2).reshape(sentences * self.heads, room, kernel)
        left = kernel - 1 if causal else kernel // 2
        band = weights.new_zeros(sentences * self.heads, room, room + kernel - 1)
        band.as_strided((sentences * self.heads, room, kernel),
                        (room * (room + kernel - 1), room + kernel, 1)).copy_(weights)
        heads = x.view(sentences, room, self.heads, -1).transpose(1, 2).reshape(sentences * self.heads, room, -1)
        y = torch.bmm(band.narrow(2, left, room), heads)
        return y.view(sentences, self.heads, room, -1).transpose(1, 2).reshape(sentences, room, channels)


def pytorch_speed(options):
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    weights = fresh_weights()
    optimizer = torch.optim.AdamW(weights.values(), lr=1e-4, betas=(0.9, 0.98), weight_decay=1e-4)
    shape = (options.sentences, options.room)
    lengths = torch.full(shape[:1], options.room).numpy()
    seconds = []
    for _ in range(options.steps):
        batch = {name: torch.randint(4, 6000, shape).numpy() for name in ("source", "target_input", "target_output")}
        start = time.perf_counter()
        loss, _ = Trained(weights, batch | {"source_lengths": lengths, "target_lengths": lengths}, HEADS, 0.1, True).loss()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    return options.sentences * options.room / statistics.median(seconds[1:])


def thimble_speed(options):
    numbers = [str(n) for n in (options.sentences, options.room, options.chunk, options.threads, options.steps)]
    budget = [options.budget] if options.budget else []
    out = subprocess.run([f"{options.build}/tests/bench/translation_step", *numbers, *budget], check=True,
                         capture_output=True, text=True).stdout
    return float(re.search(r"([\d.]+) target tokens/s", out)[1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    for name, value in (("sentences", 25), ("room", 40), ("chunk", 0), ("steps", 4), ("pairs", 3), ("threads", 2)):
        parser.add_argument("--" + name, type=int, default=value)
    parser.add_argument("--budget", default="")
    options = parser.parse_args()
    ratios = []
    for pair in range(options.pairs):
        ours, theirs = thimble_speed(options), pytorch_speed(options)
        ratios.append(ours / theirs)
        print(f"pair {pair + 1}: thimble {ours:.0f}, PyTorch {torch.__version__} {theirs:.0f} target tokens/s, "
              f"ratio {ratios[-1]:.3f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.3f} over {options.pairs} pairs, {options.sentences} sentences of "
          f"{options.room}, {options.threads} threads")


if __name__ == "__main__":
    main()
