"""Words and corpus BLEU by Python's own re, str.split and str.lower, after sacreBLEU's description of both.

usage: bleu_oracle.py none|13a mixed|lc none|exp TEXTS

TEXTS holds texts that end with a NUL byte, hypotheses and references in turn. Prints the words of each text on a line
of its own, then the score.
"""
import collections
import math
import re
import sys

RULES = [
    (re.compile(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])"), r" \1 "),
    (re.compile(r"([^0-9])([\.,])"), r"\1 \2 "),
    (re.compile(r"([\.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
]


def words_of(text, tokens, case):
    if case == "lc":
        text = text.lower()
    text = text.rstrip()
    if tokens == "13a":
        text = text.replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
        text = text.replace("&quot;", '"').replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">")
        text = " " + text + " "
        for pattern, replacement in RULES:
            text = pattern.sub(replacement, text)
    return text.split()


def grams(words, order):
    return collections.Counter(tuple(words[i : i + order]) for i in range(len(words) - order + 1))


def score(pairs, smoothing):
    matches, totals, hypothesis_words, reference_words = [0] * 4, [0] * 4, 0, 0
    for hypothesis, reference in pairs:
        hypothesis_words += len(hypothesis)
        reference_words += len(reference)
        for n in range(4):
            counts, limits = grams(hypothesis, n + 1), grams(reference, n + 1)
            totals[n] += sum(counts.values())
            matches[n] += sum(min(count, limits[gram]) for gram, count in counts.items())
    if matches[0] == 0 or totals[3] == 0:
        return 0.0
    smooth, product = 1.0, 1.0
    for match, total in zip(matches, totals):
        if match == 0:
            if smoothing == "none":
                return 0.0
            smooth *= 2
            match = 1 / smooth
        product *= match / total
    penalty = 1.0 if hypothesis_words >= reference_words else math.exp(1 - reference_words / hypothesis_words)
    return 100 * penalty * product**0.25


def main():
    tokens, case, smoothing, path = sys.argv[1:]
    with open(path, encoding="utf-8", newline="") as file:
        texts = file.read().split("\0")[:-1]
    words = [words_of(text, tokens, case) for text in texts]
    with open(1, "w", encoding="utf-8", newline="") as out:
        for line in words:
            out.write(" ".join(line) + "\n")
        out.write(repr(score(list(zip(words[0::2], words[1::2])), smoothing)) + "\n")


main()
