"""A small translation model in PyTorch: loss, all gradients and some steps of Adam, compared with what Thimble made.

usage: dynamic_conv_oracle.py FOLDER STEPS LEARNING_RATE SMOOTHING HEADS dynamic|light
FOLDER holds initial, batch, gradients, results and final .safetensors, written by dynamic_conv_oracle_test.cpp. Exit
code 1 where a relative error in norm, against PyTorch in double, is over the limit. Written from the description of
fairseq's model: convolutions by unfolding, attention by softmax over all scores. Padding is masked, never read.
"""

import math
import sys

import numpy as np
import torch
import torch.nn.functional as F

from pytorch_oracle import load

LIMIT = 1e-4
FLOOR = 1e-7  # of the largest gradient: what is zero in truth (that of a key's bias) is compared with that
PADDING = 1


class Model:
    def __init__(self, weights, batch, heads, smoothing, dynamic):
        self.w, self.heads, self.smoothing, self.dynamic = weights, heads, smoothing, dynamic
        self.batch = {n: torch.from_numpy(v).long() for n, v in batch.items()}

    def mask(self, lengths, room):
        return torch.arange(room)[None, :] < self.batch[lengths][:, None]

    def linear(self, name, x):
        return F.linear(x, self.w[name + ".weight"], self.w.get(name + ".bias"))

    def norm(self, name, x):
        return F.layer_norm(x, x.shape[-1:], self.w[name + ".weight"], self.w[name + ".bias"], 1e-5)

    def embed(self, name, ids, mask):
        table = self.w[name + ".weight"]
        channels = table.shape[1]
        half = channels // 2
        rates = torch.exp(torch.arange(half, dtype=torch.float64) * -(math.log(10000) / (half - 1)))
        angles = (torch.arange(ids.shape[1], dtype=torch.float64) + 1 + PADDING)[:, None] * rates[None, :]
        positions = torch.cat([torch.sin(angles), torch.cos(angles)], 1).to(table.dtype)
        x = table[torch.where(mask, ids, PADDING)] * math.sqrt(channels) + positions
        return x * mask[:, :, None]

    def convolve(self, name, x, mask, causal):
        x = self.linear(name + ".in", x) * mask[:, :, None]
        taps = self.w[name + ".taps.weight"]
        sentences, room, channels = x.shape
        if self.dynamic:
            kernel = taps.shape[0] // self.heads
            weights = F.linear(x, taps).view(sentences, room, self.heads, kernel)
        else:
            kernel = taps.shape[1]
            weights = taps.expand(sentences, room, self.heads, kernel)
        weights = torch.softmax(weights, -1)
        left = kernel - 1 if causal else kernel // 2
        padded = F.pad(x, (0, 0, left, kernel - 1 - left))
        windows = padded.unfold(1, kernel, 1).view(sentences, room, self.heads, channels // self.heads, kernel)
        y = torch.einsum("bthck,bthk->bthc", windows, weights).reshape(sentences, room, channels)
        return self.linear(name + ".out", y)

    def attend(self, name, x, encoded, mask):
        def split(y):
            return y.view(y.shape[0], y.shape[1], self.heads, -1).transpose(1, 2)
        q, k, v = (split(self.linear(f"{name}.{p}", y))
                   for p, y in (("query", x), ("key", encoded), ("value", encoded)))
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
        scores = scores.masked_fill(~mask[:, None, None, :], -math.inf)
        y = (torch.softmax(scores, -1) @ v).transpose(1, 2).reshape(x.shape)
        return self.linear(name + ".out", y)

    def feed_forward(self, name, x):
        y = self.linear(name + ".out", F.relu(self.linear(name + ".in", x)))
        return self.norm(name + ".norm", y + x)

    def layers(self, side):
        return sorted({n.split(".")[1] for n in self.w if n.startswith(side + ".layer")}, key=lambda n: int(n[5:]))

    def loss(self):
        b = self.batch
        source = self.mask("source_lengths", b["source"].shape[1])
        target = self.mask("target_lengths", b["target_input"].shape[1])
        x = self.embed("encoder.embedding", b["source"], source)
        for layer in self.layers("encoder"):
            name = f"encoder.{layer}"
            x = self.norm(name + ".conv.norm", self.convolve(name + ".conv", x, source, False) + x)
            x = self.feed_forward(name + ".feed_forward", x)
        encoded, x = x, self.embed("decoder.embedding", b["target_input"], target)
        for layer in self.layers("decoder"):
            name = f"decoder.{layer}"
            x = self.norm(name + ".conv.norm", self.convolve(name + ".conv", x, target, True) + x)
            x = self.norm(name + ".attention.norm", self.attend(name + ".attention", x, encoded, source) + x)
            x = self.feed_forward(name + ".feed_forward", x)
        return self.criterion(x, target)

    def criterion(self, x, mask):
        log_p = F.log_softmax(F.linear(x[mask], self.w["decoder.output.weight"]), -1)
        nll = -log_p.gather(1, self.batch["target_output"][mask][:, None]).mean()
        return (1 - self.smoothing) * nll - self.smoothing * log_p.mean(), nll


# As fairseq's Adam: decoupled decay, epsilon outside of the corrected root.
def adam(weights, state, step, rate):
    for name, w in weights.items():
        g, (m, v) = w.grad, state.setdefault(name, (torch.zeros_like(w), torch.zeros_like(w)))
        m.mul_(0.9).add_(g, alpha=0.1)
        v.mul_(0.98).addcmul_(g, g, value=0.02)
        size = rate * math.sqrt(1 - 0.98 ** (step + 1)) / (1 - 0.9 ** (step + 1))
        with torch.no_grad():
            w.add_(w, alpha=-1e-4 * rate)
            w.addcdiv_(m, v.sqrt().add_(1e-8), value=-size)
        w.grad = None


def compare(what, got, expected, floor, failures):
    worst = (0, "")
    for name, value in expected.items():
        scale = max(np.linalg.norm(value), floor.get(name, 0) / LIMIT)
        error = np.linalg.norm(got[name].astype(np.float64) - value) / scale
        worst = max(worst, (error, name))
        if not error <= LIMIT:  # a NaN fails
            failures.append(f"{what} of {name}: error {error:.2e}, the limit is {LIMIT:.0e}")
    print(f"{what}: {len(expected)} tensors, worst {worst[0]:.1e} {worst[1]}")


def main(folder, steps, rate, smoothing, heads, kind):
    torch.set_num_threads(2)
    initial, batch, gradients, results, final = (
        load(f"{folder}/{n}.safetensors") for n in ("initial", "batch", "gradients", "results", "final"))
    weights = {n: torch.from_numpy(v.astype(np.float64)).requires_grad_() for n, v in initial.items()
               if n.endswith((".weight", ".bias"))}
    failures, state = [], {}
    for step in range(steps):
        loss, nll = Model(weights, batch, heads, smoothing, kind == "dynamic").loss()
        loss.backward()
        if step == 0:
            truth = {n: w.grad.numpy().copy() for n, w in weights.items()}
            largest = max(np.linalg.norm(g) for g in truth.values())
            # Adam makes whole steps of a gradient that is nothing but rounding: up to two of the rate apart.
            noise = {n: 2 * rate * steps * g.size ** 0.5 for n, g in truth.items()
                     if np.linalg.norm(g) < FLOOR * FLOOR * largest}
            compare("gradient", gradients, truth, dict.fromkeys(truth, FLOOR * largest), failures)
            compare("result", results, {"loss": loss.detach().numpy(), "nll": nll.detach().numpy()}, {}, failures)
        adam(weights, state, step, rate)
    compare("movement", {n: final[n].astype(np.float64) - initial[n] for n in weights},
            {n: w.detach().numpy() - initial[n] for n, w in weights.items()}, noise, failures)
    if any(not name.endswith(".key.bias") for name in noise):
        failures.append(f"no gradient of {sorted(noise)} in truth")
    print("\n".join(failures), end="\n" if failures else "")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]), sys.argv[6]))
