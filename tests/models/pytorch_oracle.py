"""Trains a small WideResNet in PyTorch from the same weights on the same batches and compares what came out.

usage: pytorch_oracle.py FOLDER DEPTH WIDTH STEPS LEARNING_RATE
FOLDER holds initial, batches and final .safetensors, written by pytorch_oracle_test.cpp.
The truth is PyTorch in double. Exit code 1 where a tensor's relative error in norm is over the limit and over what
PyTorch itself loses in float: a bias that starts at zero and whose gradient cancels has few right digits in anybody's.
"""

import json
import struct
import sys

import numpy as np
import torch
import torch.nn.functional as F

LIMIT = 1e-4


def load(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = file.read()
    header.pop("__metadata__", None)
    kinds = {"F32": np.float32, "I32": np.int32}
    out = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        out[name] = np.frombuffer(data[begin:end], kinds[entry["dtype"]]).reshape(entry["shape"]).copy()
    return out


class WideResNet:
    def __init__(self, tensors, depth, width):
        self.tensors, self.depth, self.width = tensors, depth, width
        self.weights = {n: t.requires_grad_() for n, t in tensors.items() if n.endswith((".weight", ".bias"))}

    def normalize(self, name, x):
        t = self.tensors
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
                h = self.normalize(name + ".bn1", x)
                y = F.conv2d(h, t[name + ".conv1.weight"], stride=stride, padding=1)
                y = F.conv2d(self.normalize(name + ".bn2", y), t[name + ".conv2.weight"], padding=1)
                key = name + ".shortcut.weight"
                x = y + (F.conv2d(h, t[key], stride=stride) if key in t else x)
        x = self.normalize("final.bn", x).mean(dim=(2, 3))
        return F.linear(x, t["classifier.weight"], t["classifier.bias"])


def train(initial, batches, kind, depth, width, steps, rate):
    tensors = {n: torch.from_numpy(v).to(kind) for n, v in initial.items() if not n.endswith(".momentum")}
    model = WideResNet(tensors, depth, width)
    optimizer = torch.optim.SGD(model.weights.values(), lr=rate, momentum=0.9, nesterov=True, weight_decay=5e-4)
    for step in range(steps):
        images = torch.from_numpy(batches[f"images{step}"]).to(kind).permute(0, 3, 1, 2)
        loss = F.cross_entropy(model.forward(images), torch.from_numpy(batches[f"labels{step}"]).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {n: t.detach().double().numpy() for n, t in tensors.items()}


def main(folder, depth, width, steps, rate):
    torch.set_num_threads(2)
    initial, final, batches = (load(f"{folder}/{n}.safetensors") for n in ("initial", "final", "batches"))
    truth = train(initial, batches, torch.float64, depth, width, steps, rate)
    single = train(initial, batches, torch.float32, depth, width, steps, rate)
    worst, failed = 0.0, False
    for name, expected in truth.items():
        scale = max(np.linalg.norm(expected), 1e-12)
        error = np.linalg.norm(final[name].astype(np.float64) - expected) / scale
        theirs = np.linalg.norm(single[name] - expected) / scale
        if error > LIMIT:
            print(f"{name}: relative error {error:.2e}, PyTorch's own in float {theirs:.2e}")
            failed |= error > 3 * theirs
        else:
            worst = max(worst, error)
    print(f"worst relative error of the other tensors of {len(truth)} after {steps} steps: {worst:.2e}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])))
