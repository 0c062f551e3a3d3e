"""Beam search of a small translation model in PyTorch, compared with the translations that Thimble found.

usage: translation_search_oracle.py FOLDER HEADS dynamic|light BEAM LENGTH_PENALTY LONGEST
FOLDER holds weights.safetensors and translations.txt: for each sentence a line of source ids, then a line with the score
and the ids found. Written from the description of fairseq's generator; every step runs the whole decoder again, in
double. Exit code 1 where ids differ or a score is off by more than 1e-4.
"""

import sys

import numpy as np
import torch
import torch.nn.functional as F

from dynamic_conv_oracle import Model
from pytorch_oracle import load

END, FIRST = 2, 2  # ids below FIRST are never chosen


class Decoder(Model):
    def criterion(self, x, mask):
        return F.log_softmax(F.linear(x[:, -1], self.w["decoder.output.weight"]), -1)


def next_log_probabilities(weights, heads, dynamic, source, prefixes):
    count = len(prefixes)
    batch = {"source": np.tile(source, (count, 1)), "source_lengths": np.full(count, len(source)),
             "target_input": np.array(prefixes), "target_lengths": np.full(count, len(prefixes[0]))}
    scores = Decoder(weights, batch, heads, 0, dynamic).loss().numpy()
    scores[:, :FIRST] = -np.inf
    return scores


def search(step, beam, penalty, longest):
    live, ended = [(0.0, [END])], []
    for length in range(1, longest + 1):
        scores = step([ids for _, ids in live])
        if length == 1:
            scores[:, END] = -np.inf
        ranked = sorted(((total + scores[i, v], ids + [v]) for i, (total, ids) in enumerate(live)
                         for v in np.argsort(-scores[i])[:2 * beam]), key=lambda c: -c[0])[:2 * beam]
        for total, ids in ranked[:beam]:
            if ids[-1] == END and len(ended) < beam:
                ended.append((total / length ** penalty, ids[1:-1]))
        live = [c for c in ranked if c[1][-1] != END][:beam]
        if len(ended) >= beam:
            break
    else:
        ended += [(total / longest ** penalty, ids[1:]) for total, ids in live]
    return max(ended, key=lambda e: e[0])


def main(folder, heads, kind, beam, penalty, longest):
    torch.set_num_threads(1)
    weights = {n: torch.from_numpy(v.astype(np.float64)) for n, v in load(f"{folder}/weights.safetensors").items()}
    lines = open(f"{folder}/translations.txt").read().splitlines()
    wrong, ids_found, early = 0, 0, 0
    for source_line, found_line in zip(lines[::2], lines[1::2]):
        source = [int(i) for i in source_line.split()]
        score, ids = search(lambda prefixes: next_log_probabilities(weights, heads, kind == "dynamic", source, prefixes),
                            beam, penalty, longest)
        found = found_line.split()
        ids_found += len(found) - 1
        early += len(found) - 1 < longest
        if abs(float(found[0]) - score) > 1e-4 or [int(i) for i in found[1:]] != ids:
            wrong += 1
            print(f"{source}: found {found_line}, expected {score:.6f} {ids}")
    print(f"{len(lines) // 2} sentences, {ids_found} ids, {early} ended before {longest}, {wrong} wrong")
    return 1 if wrong or early == 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), float(sys.argv[5]), int(sys.argv[6])))
