"""Prints how many bytes PyTorch's autograd keeps between the forward and the backward pass of WideResNet-28-2.

usage: pytorch_tape.py BATCH
Storages are counted once, however many ops saved them; parameters and buffers are not counted.
Asked by tests/models/golden_plan_test.cpp, whose own count of a tape this is the oracle of.
"""

import sys

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs else None

    def forward(self, x):
        first = F.relu(self.bn1(x), inplace=True)
        y = self.conv2(F.relu(self.bn2(self.conv1(first)), inplace=True))
        return y + (x if self.shortcut is None else self.shortcut(first))


class WideResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        widths = [16] + [32] * 4 + [64] * 4 + [128] * 4
        strides = [2 if i in (4, 8) else 1 for i in range(12)]
        self.blocks = nn.Sequential(*map(Block, widths[:-1], widths[1:], strides))
        self.bn = nn.BatchNorm2d(128)
        self.classifier = nn.Linear(128, 10)

    def forward(self, x):
        x = F.relu(self.bn(self.blocks(self.stem(x))), inplace=True)
        return self.classifier(F.avg_pool2d(x, 8).flatten(1))


def saved_bytes(forward, owned):
    """Of all storages that ops of `forward` save, but for those of the `owned` tensors."""
    saved = {}

    def keep(tensor):
        storage = tensor.storage()
        saved[storage.data_ptr()] = storage  # held, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        forward()
    for tensor in owned:
        saved.pop(tensor.storage().data_ptr(), None)
    return sum(storage.nbytes() for storage in saved.values())


if __name__ == "__main__":
    batch = int(sys.argv[1])
    model = WideResNet()
    images, labels = torch.randn(batch, 3, 32, 32), torch.randint(0, 10, (batch,))
    print(saved_bytes(lambda: F.cross_entropy(model(images), labels), [*model.parameters(), *model.buffers()]))
