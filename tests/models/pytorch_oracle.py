"""Trains a small WideResNet in PyTorch from the same weights on the same batches and compares what came out.

usage: pytorch_oracle.py FOLDER DEPTH WIDTH STEPS LEARNING_RATE
FOLDER holds initial, batches and final .safetensors, written by pytorch_oracle_test.cpp. Exit code 1 where a tensor's
relative error in norm, against PyTorch in double or in float, is over its limit. No tensor is excused.

A momentum holds the gradients of five steps and nothing else, so it is the sharper test: a weight is mostly what it was
before. In float, PyTorch's own momenta of biases whose gradients cancel are up to 1.2e-4 from its double ones.
"""

import json
import struct
import sys

import numpy as np
import torch
import torch.nn.functional as F

LIMIT = 1e-4           # of weights, statistics and, against double, momenta
MOMENTUM_LIMIT = 1e-3  # of momenta against PyTorch's float
MOVED_LIMIT = 1e-2     # of a weight's error, relative to how far it moved: a run that does not train is off by 1
MEAN, DEVIATION = (torch.tensor(c).view(1, 3, 1, 1).double() for c in ([125.3, 123.0, 113.9], [63.0, 62.1, 66.7]))
LEAST_MOVED = 1e-2     # all weights together, relative to where they began


def load(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = file.read()
    header.pop("__metadata__", None)
    kinds = {"F32": np.float32, "I32": np.int32, "U8": np.uint8}
    out = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        out[name] = np.frombuffer(data[begin:end], kinds[entry["dtype"]]).reshape(entry["shape"]).copy()
    return out


class WideResNet:
    def __init__(self, tensors, depth, width):
        self.tensors, self.depth, self.width = tensors, depth, width
        self.by_groups = "final.gn.weight" in tensors
        self.norm = "gn" if self.by_groups else "bn"
        self.weights = {n: t.requires_grad_() for n, t in tensors.items() if n.endswith((".weight", ".bias"))}

    def normalize(self, name, x):
        t = self.tensors
        if self.by_groups:
            return F.relu(F.group_norm(x, 16, t[name + ".weight"], t[name + ".bias"], eps=1e-5))
        y = F.batch_norm(x, t[name + ".running_mean"], t[name + ".running_variance"], t[name + ".weight"],
                         t[name + ".bias"], training=True, momentum=0.1, eps=1e-5)
        return F.relu(y)

    def forward(self, x):
        t = self.tensors
        x = F.conv2d(x, t["stem.weight"], padding=1)
        number = 0
        for group in range(3):
            for i in range((self.depth - 4) // 6):
                stride, name = (2 if group > 0 and i == 0 else 1), f"block{number}"
                number += 1
                h = self.normalize(f"{name}.{self.norm}1", x)
                y = F.conv2d(h, t[name + ".conv1.weight"], stride=stride, padding=1)
                y = F.conv2d(self.normalize(f"{name}.{self.norm}2", y), t[name + ".conv2.weight"], padding=1)
                key = name + ".shortcut.weight"
                x = y + (F.conv2d(h, t[key], stride=stride) if key in t else x)
        x = self.normalize(f"final.{self.norm}", x).mean(dim=(2, 3))
        return F.linear(x, t["classifier.weight"], t["classifier.bias"])


def train(initial, batches, kind, depth, width, steps, rate):
    tensors = {n: torch.from_numpy(v.copy()).to(kind) for n, v in initial.items() if not n.endswith(".momentum")}
    model = WideResNet(tensors, depth, width)
    optimizer = torch.optim.SGD(model.weights.values(), lr=rate, momentum=0.9, nesterov=True, weight_decay=5e-4)
    for step in range(steps):
        images = ((torch.from_numpy(batches[f"pictures{step}"]).double() - MEAN) / DEVIATION).to(kind)
        loss = F.cross_entropy(model.forward(images), torch.from_numpy(batches[f"labels{step}"]).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    tensors |= {n + ".momentum": optimizer.state[w]["momentum_buffer"] for n, w in model.weights.items()}
    return {n: t.detach().double().numpy() for n, t in tensors.items()}


def distance(a, b, scale):
    return np.linalg.norm(a.astype(np.float64) - b) / max(np.linalg.norm(scale), 1e-12)


def kind_of(name):
    for suffix in (".momentum", ".running_mean", ".running_variance"):
        if name.endswith(suffix):
            return suffix[1:]
    return "bias" if name.endswith(".bias") else "scale" if "bn" in name or "gn" in name else "weight"


def main(folder, depth, width, steps, rate):
    torch.set_num_threads(2)
    initial, final, batches = (load(f"{folder}/{n}.safetensors") for n in ("initial", "final", "batches"))
    double, single = (train(initial, batches, kind, depth, width, steps, rate)
                      for kind in (torch.float64, torch.float32))
    failures, rows, moved_square, start_square = [], {}, 0.0, 0.0
    for name in final:
        kind = kind_of(name)
        against = {"double": distance(final[name], double[name], double[name]),
                   "float": distance(final[name], single[name], single[name])}
        moved = distance(double[name], initial[name], initial[name])
        for what, error in against.items():
            limit = MOMENTUM_LIMIT if kind == "momentum" and what == "float" else LIMIT
            if not error <= limit:  # a NaN fails
                failures.append(f"{name}: error {error:.2e} against PyTorch's {what}, the limit is {limit:.0e}")
        if kind in ("weight", "scale", "bias"):
            of_moved = distance(final[name], double[name], double[name] - initial[name])
            if not of_moved <= MOVED_LIMIT:
                failures.append(f"{name}: error {of_moved:.2e} of its movement, the limit is {MOVED_LIMIT:.0e}")
            moved_square += np.sum((double[name] - initial[name]) ** 2)
            start_square += np.sum(initial[name].astype(np.float64) ** 2)
        rows.setdefault(kind, []).append((against["double"], against["float"], moved, name))
    print(f"{'':17}{'worst against double':42}{'worst against float':42}moved least")
    for kind, row in rows.items():
        cells = [max((r[i], r[3]) for r in row) for i in (0, 1)]
        if initial[row[0][3]].any():  # not zero at first
            cells.append(min((r[2], r[3]) for r in row))
        print(f"{kind:17}" + "".join(f"{value:.1e} {name:34}" for value, name in cells))
    moved = (moved_square / start_square) ** 0.5
    print(f"{len(final)} tensors; all weights together moved by {moved:.1e} of themselves in {steps} steps")
    if moved < LEAST_MOVED:
        failures.append(f"the weights moved by {moved:.1e}, too little to tell a wrong gradient by: {LEAST_MOVED:.0e}")
    print("\n".join(failures), end="\n" if failures else "")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])))
