"""Prints how many bytes PyTorch's autograd keeps between the forward and the backward pass of `dynamicconv-iwslt`.

usage: pytorch_translation_tape.py SENTENCES ROOM band|unfold [SENTENCES ROOM band|unfold ...]
A line for each three arguments. The model in fairseq's form: time before sentences, attention's probabilities and all logits materialised, masks of one
byte as on a GPU. Convolutions as products with band matrices, fairseq's way up to 512 ids, or with unfolded inputs, its
way beyond. Counted as in pytorch_tape.py and asked by the same test.
"""

import pathlib
import sys

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "models"), str(TESTS / "bench")]

import torch
import torch.nn.functional as F

from pytorch_tape import saved_bytes
from translation_speed import HEADS, Trained, fresh_weights


class Fairseq(Trained):
    unfold = False

    def drop(self, x, rate):
        return torch.native_dropout(x, rate, True)[0]

    def embed(self, name, ids, mask):
        return super().embed(name, ids, mask).transpose(0, 1)

    def convolve(self, name, x, mask, causal):
        x = self.linear(name + ".in", x)
        if not causal:
            x = x * mask.t()[:, :, None]
        time, sentences, channels = x.shape
        rows, taps = sentences * self.heads, self.w[name + ".taps.weight"]
        kernel = taps.shape[0] // self.heads
        left = kernel - 1 if causal else kernel // 2
        weights = self.drop(torch.softmax(F.linear(x, taps).view(time * rows, kernel), 1), 0.1)
        if causal and kernel > time:
            weights = weights.narrow(1, kernel - time, time)
            kernel, left = time, time - 1
        if self.unfold:
            padded = F.pad(x, (0, 0, 0, 0, left, kernel - 1 - left))
            step = sentences * channels
            windows = padded.as_strided((time, sentences, channels, kernel), (step, channels, 1, step))
            y = torch.bmm(windows.view(time * rows, -1, kernel), weights[:, :, None]).view(x.shape)
        else:
            band = x.new_zeros(rows, time, time + kernel - 1)
            places = (time * (time + kernel - 1), time + kernel, 1)
            band.as_strided((rows, time, kernel), places).copy_(weights.view(time, rows, kernel).transpose(0, 1))
            y = torch.bmm(band.narrow(2, left, time), x.view(time, rows, -1).transpose(0, 1))
            y = y.transpose(0, 1).reshape(x.shape)
        return self.linear(name + ".out", y)

    def attend(self, name, x, encoded, mask):
        rows = x.shape[1] * self.heads
        q, k, v = (self.linear(f"{name}.{p}", y) for p, y in (("query", x), ("key", encoded), ("value", encoded)))
        q *= (x.shape[2] // self.heads) ** -0.5
        q, k, v = (y.view(y.shape[0], rows, -1).transpose(0, 1) for y in (q, k, v))
        scores = torch.bmm(q, k.transpose(1, 2)).view(x.shape[1], self.heads, x.shape[0], -1)
        scores = torch.where(mask[:, None, None, :], scores, -torch.inf).view(rows, x.shape[0], -1)
        y = torch.bmm(self.drop(torch.softmax(scores, -1), 0.1), v)
        return self.linear(name + ".out", y.transpose(0, 1).reshape(x.shape))

    def criterion(self, x, mask):
        log_p = F.log_softmax(F.linear(x.transpose(0, 1), self.w["decoder.output.weight"]), -1)
        nll = -(log_p.gather(2, self.batch["target_output"][:, :, None])[:, :, 0] * mask).sum()
        smooth = -(log_p.sum(2) * mask).sum()
        return (1 - self.smoothing) * nll + self.smoothing / log_p.shape[2] * smooth, nll


def tape(weights, sentences, room, form):
    ids = {n: torch.randint(4, 6000, (sentences, room)).numpy() for n in ("source", "target_input", "target_output")}
    lengths = dict.fromkeys(("source_lengths", "target_lengths"), torch.full((sentences,), room).numpy())
    model = Fairseq(weights, ids | lengths, HEADS, 0.1, True)
    model.unfold = form == "unfold"
    return saved_bytes(model.loss, weights.values())


if __name__ == "__main__":
    weights = fresh_weights()
    for i in range(1, len(sys.argv), 3):
        print(tape(weights, int(sys.argv[i]), int(sys.argv[i + 1]), sys.argv[i + 2]))
