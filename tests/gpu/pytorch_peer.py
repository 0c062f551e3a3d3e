"""What PyTorch does on this GPU with the models that Thimble trains: speed, memory, and the device's ceilings.

usage: python3 tests/gpu/pytorch_peer.py [--part ceilings,wrn,translation,...] [--seconds 200] [--output FILE]
       python3 tests/gpu/pytorch_peer.py --warm                           (only fills torch.compile's cache on disk)
       /usr/bin/python3 tests/gpu/pytorch_peer.py --device cpu --tiny     (does it run at all)

Parts:
  ceilings     device copy and matrix products
  wrn          a training step of WRN-28-2 on pictures that lie on the device: fp32, TF32 and bf16 autocast, both layouts,
               launched op by op, as one CUDA graph, and as one graph with blocks recomputed (checkpoint)
  translation  a training step of DynamicConv (IWSLT) on 160 sentence pairs of 25 tokens, fairseq's band matrices
  wrn_compile, translation_compile
               these steps through torch.compile, as one CUDA graph too. Compiling takes 20 to 50 s each, from a cache
               some seconds: --warm, in the background, fills it, a process for each precision

Each part is a process of its own, so that memory is its own and a compilation that takes too long can be ended; what it
measured until then counts. One JSON on stdout or in --output; progress on stderr. A time is the median of windows between CUDA
events; memory is that of steps after warm-up: the allocator's peaks, and what the device holds outside of the allocator
(context, libraries, modules).
"""

import argparse
import contextlib
import gc
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import time
import traceback

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "bench"), str(TESTS / "models")]

import torch
import torch.nn.functional as F

# Seconds; all end with --seconds.
SHARES = {"ceilings": 15, "wrn": 60, "translation": 30, "wrn_compile": 60, "translation_compile": 60}
PRECISIONS = ("fp32", "tf32", "bf16")


# ---- measuring

class Bench:
    def __init__(self, options):
        self.device, self.tiny, self.end = options.device, options.tiny, time.monotonic() + options.seconds
        self.warm, self.precisions = options.warm, options.precision.split(",")
        self.on_gpu = self.device != "cpu"

    def left(self):
        return self.end - time.monotonic()

    def synchronize(self):
        if self.on_gpu:
            torch.cuda.synchronize()

    def seconds_of(self, run, count):
        """Of `count` runs, on the device's clock."""
        if not self.on_gpu:
            start = time.perf_counter()
            for _ in range(count):
                run()
            return time.perf_counter() - start
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(count):
            run()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1000

    def time(self, run, budget=0.5, windows=7):
        """Seconds of one run: median and extremes of windows."""
        if self.tiny or self.warm:
            budget, windows = 0, 2
        self.synchronize()
        once = self.seconds_of(run, 1)
        count = max(1, int(budget / windows / max(once, 1e-6)))
        each = sorted(self.seconds_of(run, count) / count for _ in range(windows))
        return {"seconds": statistics.median(each), "fastest": each[0], "slowest": each[-1], "windows": windows,
                "runs_a_window": count}

    def forget(self):
        gc.collect()
        if self.on_gpu:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def memory(self):
        if not self.on_gpu:
            return {}
        free, total = torch.cuda.mem_get_info()
        reserved = torch.cuda.memory_reserved()
        return {"max_allocated": torch.cuda.max_memory_allocated(), "max_reserved": torch.cuda.max_memory_reserved(),
                "device_used": total - free, "outside_allocator": total - free - reserved}


def say(**result):
    """One result of a child, at once."""
    print(json.dumps(result), flush=True)


def attempt(bench, name, needed, run):
    """What one configuration says, or why it does not."""
    if bench.left() < needed:
        say(name=name, skipped=f"{bench.left():.0f} s left, it wants {needed}")
        return
    start = time.monotonic()
    try:
        result = run()
        say(name=name, took=round(time.monotonic() - start, 2), **result)
    except Exception as error:  # whatever it is, the others shall be measured
        say(name=name, took=round(time.monotonic() - start, 2), error=f"{type(error).__name__}: {error}"[:600],
            where=traceback.format_exc(limit=-3)[-600:])
    bench.forget()


def set_precision(precision):
    with contextlib.suppress(AttributeError):
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = True


def autocast(bench, precision):
    if precision != "bf16":
        return contextlib.nullcontext()
    return torch.autocast("cuda" if bench.on_gpu else "cpu", dtype=torch.bfloat16)


def optimizer_of(kind, weights, **arguments):
    """The fastest form that this version has."""
    for form in ({"fused": True}, {"foreach": True}, {}):
        try:
            made = kind(weights, **arguments, **form)
            return made, next(iter(form), "plain")
        except (TypeError, RuntimeError, ValueError):
            continue
    raise RuntimeError("no form of the optimizer can be made")


class Step:
    """A training step: loss() leaves gradients to the optimizer. `launch`: eager or graph."""

    def __init__(self, bench, loss, optimizer, launch):
        self.loss, self.optimizer, self.graph = loss, optimizer, None
        if launch == "graph" and not bench.on_gpu:
            raise RuntimeError("graphs want a GPU")
        warm = 1 if bench.tiny else 4
        if launch == "eager":
            for _ in range(warm):
                self.eager()
            bench.forget()
            return
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(warm):
                self.eager()
        torch.cuda.current_stream().wait_stream(side)
        self.optimizer.zero_grad(set_to_none=True)
        bench.forget()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.last_loss = self.loss()
            self.last_loss.backward()
            self.optimizer.step()

    def eager(self):
        self.optimizer.zero_grad(set_to_none=True)
        self.last_loss = self.loss()
        self.last_loss.backward()
        self.optimizer.step()

    def __call__(self):
        if self.graph:
            self.graph.replay()
        else:
            self.eager()


def measured_step(bench, step, items, form):
    result = bench.time(step)
    loss = step.last_loss.item()
    return {"per_second": items / result["seconds"], "ms": 1000 * result["seconds"], **result, **bench.memory(),
            "optimizer": form, "loss": loss}


# ---- ceilings

def ceilings(bench):
    sizes = [64, 256, 1024] if not bench.tiny else [1]
    for mib in sizes:
        def copy(mib=mib):
            n = mib * 2**20 // 4
            x, y = torch.randn(n, device=bench.device), torch.empty(n, device=bench.device)
            copied = bench.time(lambda: y.copy_(x), 0.3)
            added = bench.time(lambda: torch.add(x, y, out=y), 0.3)
            return {"copy_gb_per_s": 8e-9 * n / copied["seconds"], "add_gb_per_s": 12e-9 * n / added["seconds"]}
        attempt(bench, f"copy_{mib}_mib", 1, copy)
    for precision in ("fp32", "tf32", "bf16"):
        def product(precision=precision):
            set_precision(precision)
            n = 64 if bench.tiny else 4096
            kind = torch.bfloat16 if precision == "bf16" else torch.float32
            a, b = (torch.randn(n, n, device=bench.device).to(kind) for _ in range(2))
            return {"tflop_per_s": 2e-12 * n**3 / bench.time(lambda: a @ b, 0.3)["seconds"]}
        attempt(bench, f"product_{precision}", 1, product)


# ---- WRN

def wide_resnet(bench, layout, checkpointed):
    from pytorch_oracle import WideResNet
    from train_speed import fresh_tensors

    class Checkpointed(WideResNet):
        """The same with each block made again in the backward pass."""

        def block(self, x, number, stride):
            t, name = self.tensors, f"block{number}"
            h = self.normalize(f"{name}.bn1", x)
            y = F.conv2d(h, t[name + ".conv1.weight"], stride=stride, padding=1)
            y = F.conv2d(self.normalize(f"{name}.bn2", y), t[name + ".conv2.weight"], padding=1)
            key = name + ".shortcut.weight"
            return y + (F.conv2d(h, t[key], stride=stride) if key in t else x)

        def forward(self, x):
            from torch.utils.checkpoint import checkpoint
            x = F.conv2d(x, self.tensors["stem.weight"], padding=1)
            blocks = (self.depth - 4) // 6
            for number in range(3 * blocks):
                stride = 2 if number >= blocks and number % blocks == 0 else 1
                x = checkpoint(self.block, x, number, stride, use_reentrant=False, preserve_rng_state=False)
            x = self.normalize("final.bn", x).mean(dim=(2, 3))
            return F.linear(x, self.tensors["classifier.weight"], self.tensors["classifier.bias"])

    torch.manual_seed(1)
    depth, width = (10, 1) if bench.tiny else (28, 2)
    tensors = {n: t.to(bench.device, memory_format=layout) if t.dim() == 4 else t.to(bench.device)
               for n, t in fresh_tensors(depth, width).items()}
    model = (Checkpointed if checkpointed else WideResNet)(tensors, depth, width)
    count = sum(w.numel() for w in model.weights.values())
    if not bench.tiny and count != 1467610:
        raise RuntimeError(f"{count} parameters instead of 1467610")
    return model


def wrn_step(bench, precision, layout, launch, batch, compiled=False):
    set_precision(precision)
    memory_format = torch.channels_last if layout == "nhwc" else torch.contiguous_format
    model = wide_resnet(bench, memory_format, launch == "checkpoint")
    optimizer, form = optimizer_of(torch.optim.SGD, list(model.weights.values()), lr=0.01, momentum=0.9, nesterov=True,
                                   weight_decay=5e-4)
    images = torch.randn(batch, 3, 32, 32, device=bench.device).to(memory_format=memory_format)
    labels = torch.randint(10, (batch,), device=bench.device)

    def loss():
        with autocast(bench, precision):
            logits = model.forward(images)
        return F.cross_entropy(logits.float(), labels)

    if compiled:
        loss = torch.compile(loss, dynamic=False)
    step = Step(bench, loss, optimizer, "eager" if launch == "eager" else "graph")
    return {"precision": precision, "layout": layout, "launch": launch, "batch": batch, "compiled": compiled,
            **measured_step(bench, step, batch, form)}


def wrn(bench):
    formats = [("fp32", "nchw"), ("fp32", "nhwc"), ("tf32", "nchw"), ("tf32", "nhwc"), ("bf16", "nhwc")]
    launches = ("graph", "eager") if bench.on_gpu else ("eager",)
    batches = (4,) if bench.tiny else (100, 128)
    for batch in batches:
        for launch in launches:
            for precision, layout in formats:
                attempt(bench, f"wrn_{precision}_{layout}_{launch}_{batch}", 3,
                        lambda: wrn_step(bench, precision, layout, launch, batch))
        if bench.on_gpu:
            for precision in ("fp32", "tf32"):
                attempt(bench, f"wrn_{precision}_nhwc_checkpoint_{batch}", 3,
                        lambda: wrn_step(bench, precision, "nhwc", "checkpoint", batch))


def compilation(bench, name, precisions, run):
    """Attempts run(precision) through torch.compile, where this version has it."""
    if not hasattr(torch, "compile"):
        say(name=name, skipped=f"torch {torch.__version__} has no compile")
        return
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(min(16, os.cpu_count() or 1)))
    for precision in precisions:
        torch._dynamo.reset()
        attempt(bench, f"{name}_{precision}", 5, lambda: run(precision))


def wrn_compile(bench):
    launches = ("graph", "eager") if bench.on_gpu and not bench.warm else ("eager",)
    precisions = [p for p in ("tf32", "bf16", "fp32") if p in bench.precisions]
    for batch in (4,) if bench.tiny else (100, 128):
        for launch in launches if batch == 100 or not bench.on_gpu else launches[:1]:
            compilation(bench, f"wrn_compile_nhwc_{launch}_{batch}", precisions,
                        lambda precision: wrn_step(bench, precision, "nhwc", launch, batch, True))


# ---- translation

def translation_model(bench, sentences, room):
    import translation_speed as ours

    class OnDevice(ours.Trained):
        """No padding, so no masks; positions made once; attention fused where this version can."""

        def __init__(self, weights, batch):
            self.w, self.batch, self.heads, self.smoothing, self.dynamic = weights, batch, ours.HEADS, 0.1, True
            half = ours.CHANNELS // 2
            rates = torch.exp(torch.arange(half, dtype=torch.float64) * -(9.210340371976184 / (half - 1)))
            angles = (torch.arange(room, dtype=torch.float64) + 2)[:, None] * rates[None, :]
            self.positions = torch.cat([angles.sin(), angles.cos()], 1).float().to(bench.device)

        def mask(self, lengths, room):
            return None

        def embed(self, name, ids, mask):
            x = F.embedding(ids, self.w[name + ".weight"]) * ours.CHANNELS**0.5 + self.positions
            return self.drop(x, 0.3)

        def convolve(self, name, x, mask, causal):
            x = self.linear(name + ".in", x)
            return self.linear(name + ".out", self.band_products(x, self.w[name + ".taps.weight"], causal))

        def attend(self, name, x, encoded, mask):
            def split(y):
                return y.view(y.shape[0], y.shape[1], self.heads, -1).transpose(1, 2)
            q, k, v = (split(self.linear(f"{name}.{p}", y))
                       for p, y in (("query", x), ("key", encoded), ("value", encoded)))
            if hasattr(F, "scaled_dot_product_attention"):
                y = F.scaled_dot_product_attention(q, k, v, dropout_p=0.1)
            else:
                y = self.drop(torch.softmax(q @ k.transpose(2, 3) / q.shape[-1]**0.5, -1), 0.1) @ v
            return self.linear(name + ".out", y.transpose(1, 2).reshape(x.shape))

        def criterion(self, x, mask):
            logits = F.linear(x, self.w["decoder.output.weight"]).float()
            loss = F.cross_entropy(logits.view(-1, logits.shape[-1]), self.batch["target_output"].view(-1),
                                   label_smoothing=self.smoothing)
            return loss, loss

    torch.manual_seed(1)
    weights = {n: w.detach().to(bench.device).requires_grad_() for n, w in ours.fresh_weights().items()}
    count = sum(w.numel() for w in weights.values())
    if count != 38685184:
        raise RuntimeError(f"{count} parameters instead of 38685184")
    batch = {n: torch.randint(4, 6000, (sentences, room), device=bench.device)
             for n in ("source", "target_input", "target_output")}
    return OnDevice(weights, batch)


def translation_step(bench, precision, launch, sentences, room, compiled=False):
    set_precision(precision)
    model = translation_model(bench, sentences, room)
    arguments = {"lr": 1e-4, "betas": (0.9, 0.98), "weight_decay": 1e-4}
    if bench.on_gpu and launch == "graph":
        arguments["capturable"] = True
    optimizer, form = optimizer_of(torch.optim.AdamW, list(model.w.values()), **arguments)

    def loss():
        with autocast(bench, precision):
            return model.loss()[0]

    if compiled:
        loss = torch.compile(loss, dynamic=False)
    step = Step(bench, loss, optimizer, launch)
    return {"precision": precision, "launch": launch, "sentences": sentences, "room": room, "compiled": compiled,
            **measured_step(bench, step, sentences * room, form)}


def translation(bench):
    sentences, room = (2, 5) if bench.tiny else (160, 25)
    for launch in ("graph", "eager") if bench.on_gpu else ("eager",):
        for precision in ("fp32", "tf32", "bf16"):
            attempt(bench, f"translation_{precision}_{launch}_{sentences}x{room}", 3,
                    lambda: translation_step(bench, precision, launch, sentences, room))


def translation_compile(bench):
    sentences, room = (2, 5) if bench.tiny else (160, 25)
    launch = "graph" if bench.on_gpu and not bench.warm else "eager"
    compilation(bench, f"translation_compile_{launch}_{sentences}x{room}",
                [p for p in ("tf32", "bf16", "fp32") if p in bench.precisions],
                lambda precision: translation_step(bench, precision, launch, sentences, room, True))


# ---- processes

PARTS = {"ceilings": ceilings, "wrn": wrn, "translation": translation, "wrn_compile": wrn_compile,
         "translation_compile": translation_compile}


def child(options):
    bench = Bench(options)
    about = {"name": "environment", "torch": torch.__version__, "python": sys.version.split()[0]}
    if bench.on_gpu:
        torch.zeros(1, device=bench.device)
        about |= {"device": torch.cuda.get_device_name(), "cuda": torch.version.cuda,
                  "cudnn": torch.backends.cudnn.version(), "at_start": bench.memory()}
    say(**about)
    PARTS[options.child](bench)


class Child:
    """A process of one part. It ends with this one, also when this one is told to end."""
    all = []

    def __init__(self, part, seconds, options, precision):
        command = [sys.executable, __file__, "--child", part, "--seconds", str(seconds), "--device", options.device,
                   "--precision", precision]
        command += ["--tiny"] if options.tiny else []
        command += ["--warm"] if options.warm else []
        self.part, self.start = part, time.monotonic()
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        Child.all.append(self)

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # with what it compiles in

    def lines(self):
        results = []
        for line in self.process.stdout:
            try:
                results.append(json.loads(line))
            except ValueError:
                continue
            one = results[-1]
            what = one.get("error") or one.get("skipped") or " ".join(
                f"{key} {one[key]:.6g}" for key in ("per_second", "ms", "copy_gb_per_s", "add_gb_per_s", "tflop_per_s")
                if key in one)
            print(f"{time.monotonic() - self.start:6.1f} s  {one['name']}: {what}", file=sys.stderr, flush=True)
        return results


def run_children(parts, seconds, options, precisions):
    """The lines of all children, side by side, as many as came in time."""
    children = [Child(part, seconds, options, precision) for part in parts for precision in precisions]
    timer_fired = False

    def end(number, _):
        nonlocal timer_fired
        timer_fired = True
        for child in Child.all:
            child.kill()
        if number != signal.SIGALRM:
            sys.exit(1)

    for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    signal.alarm(max(1, int(seconds + 0.5)))
    results = [line for child in children for line in child.lines()]
    codes = [child.process.wait() for child in children]
    signal.alarm(0)
    return {"seconds": round(time.monotonic() - children[0].start, 1), "exit": next((c for c in codes if c), 0),
            "ended": timer_fired, "results": results}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--part", default=",".join(PARTS), help="some of " + ",".join(PARTS))
    parser.add_argument("--seconds", type=float, default=200)
    parser.add_argument("--warm", action="store_true", help="compile only, all precisions side by side")
    parser.add_argument("--precision", default=",".join(PRECISIONS), help="what torch.compile is tried with")
    parser.add_argument("--output")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--tiny", action="store_true", help="sizes for a trial")
    parser.add_argument("--child", choices=tuple(PARTS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options)
        return
    wanted = options.part.split(",")
    if unknown := [part for part in wanted if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]}")
    if options.warm:
        compiled = [part for part in PARTS if part.endswith("_compile") and part in wanted]
        run_children(compiled, options.seconds, options, options.precision.split(","))
        return
    end, parts = time.monotonic() + options.seconds, {}
    for i, part in enumerate(wanted):
        left = end - time.monotonic()
        seconds = left if i + 1 == len(wanted) else min(left, SHARES[part])
        if seconds < 3:
            parts[part] = {"skipped": f"{left:.0f} s left"}
            continue
        parts[part] = run_children([part], seconds, options, [options.precision])
        if options.output:  # what there is so far
            pathlib.Path(options.output).write_text(json.dumps(parts, indent=1))
    if not options.output:
        print(json.dumps(parts, indent=1))


if __name__ == "__main__":
    main()
