"""One training loop for every notebook: `fit`, its schedules and its history.

Random numbers (dropout, augmentation of your own) come from streams keyed by (seed, step, rank), set before every step:
a step depends on nothing but the state before it, so a resumed run repeats the steps of an unbroken one, and every
row of a table meets the same draws. The caller's own random state is put back at the end. Results are bit-equal on one
machine and one thread.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from accelerate.utils import convert_to_fp32, recursively_apply
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from reidkit import checkpoints
from reidkit.distributed import World, agree, average_gradients, batch_means, whole, world
from reidkit.progress import bar
from reidkit.randomness import callers_randomness_kept, seed_all

Schedule = Callable[[int], float]
COLUMNS = ("step", "epoch", "lr", "loss")  # of a history; the objective's own terms follow


class NonFiniteLoss(FloatingPointError):
    """A loss or a gradient became NaN or infinite: see `step` and `terms`. The weights are those before that step."""

    def __init__(self, message: str, step: int, terms: Sequence[str]):
        super().__init__(message, step, terms)  # as they came, so that it survives the way out of a worker process
        self.step, self.terms = step, list(terms)

    def __str__(self) -> str:
        return self.args[0]


@dataclass(frozen=True)
class History:
    """What a run left: a row per step (step, epoch, lr, loss and every term, unweighted), and how long it took.

    frame              DataFrame; NaN where a term was absent from a step.
    seconds            wall-clock time in the loop, earlier parts of a resumed run included.
    images_per_second  images of all processes over `seconds`.
    """

    frame: pd.DataFrame = field(repr=False)
    seconds: float
    images_per_second: float


def warmup_cosine(steps: int, warmup: float = 0.1) -> Schedule:
    """Factor of the learning rate: linear up to 1 over a fraction `warmup` of `steps`, then a cosine to 0."""
    _fractions(warmup=warmup)
    rise = round(warmup * steps)

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))

    return factor


def warmup_milestones(
    steps: int, milestones: Sequence[float], gamma: float = 0.1, warmup: float = 0.0, start: float = 0.01
) -> Schedule:
    """The papers' schedule: linear from `start` to 1 over the first `warmup`, then times `gamma` at each milestone.

    Milestones and warm-up are fractions of `steps`: 40 and 70 of 120 epochs are (40/120, 70/120).
    """
    _fractions(warmup=warmup, **{f"milestone {i}": m for i, m in enumerate(milestones)})
    rise, falls = round(warmup * steps), [round(m * steps) for m in milestones]

    def factor(step: int) -> float:
        ramp = start + (1 - start) * step / rise if step < rise else 1.0
        return ramp * gamma ** sum(step >= fall for fall in falls)

    return factor


def fit(
    model: nn.Module,
    objective: Callable[[nn.Module, Any, int], Mapping[str, Tensor]],
    batches: Any,
    *,
    steps: int,
    lr: float = 3.5e-3,
    weight_decay: float = 5e-4,
    optimizer: torch.optim.Optimizer | None = None,
    schedule: Schedule | None = None,
    weights: Mapping[str, float] | None = None,
    after_step: Callable[[Any, Any], None] | None = None,
    before_epoch: Callable[[int], None] | None = None,
    stateful: Mapping[str, Any] | None = None,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    checkpoint_every: int | None = None,
    precision: str = "no",
    device: str | torch.device | None = None,
    progress: bool = True,
) -> History:
    """Train `model` in place for `steps` optimiser steps, on one CPU, one GPU or several processes.

    Parameters
    ----------
    model
        Moved to the device, channels_last, and left there in training mode.
    objective
        `objective(model, batch, step)` -> dict of named scalar tensors. Their sum, weighted by `weights` (1 where not
        named), is minimised; each is logged unweighted.
    batches
        `len(batches)` batches an epoch; `batches.epoch(e, device=, rank=, world=, skip=)` iterates over them. A batch
        has `pids`, one per image. Epochs follow one another until `steps` are done.
    lr, weight_decay, optimizer
        Adam over the model and the modules in `stateful`; an `optimizer` of your own is used as it is instead (it then
        must hold all that is to be trained, and `lr` and `weight_decay` are not looked at).
    schedule
        step -> factor of the learning rates; default `warmup_cosine(steps)`.
    after_step
        `after_step(batch, outputs)`, without gradients, after each optimiser step; `outputs` is what the model's last
        forward of this step returned, detached (None if it was not called). With several processes both are whole:
        the batch as one process would see it.
    before_epoch
        `before_epoch(epoch)` at the start of each epoch: re-cluster, relabel, re-sample.
    stateful
        Name -> object with state_dict/load_state_dict, kept in the checkpoint: a memory bank, pseudo-labels, a module
        with weights. What before_epoch makes and a later epoch still needs belongs here.
    seed
        Of the random streams during training (the caller initialises the model, `batches` has its own seed).
    checkpoint, checkpoint_every
        A safetensors file, written whole every so many steps (default: at each epoch's end) and at the end. If it is
        there, the run goes on from it, to the same weights as an unbroken run; a finished one returns at once. With
        `before_epoch` a checkpoint due in mid-epoch waits for the epoch's end: resuming begins with `before_epoch`.
        What cannot be compared (the objective, the images, the sampler, the augmentation) must be the caller's care.
        `model.load_state_dict(checkpoints.load(checkpoint)["model"])` takes the weights out of it.
    precision
        "no" (float32) or "bf16": the model's forward under autocast, its outputs back in float32 for the losses. Slow,
        with a warning, on an x86 processor without avx512_bf16 or AMX.
    device
        Default: the launch's own, else the accelerator if there is one, else the CPU.
    progress
        A bar that leaves nothing behind.

    Several processes (`accelerate launch`, `torchrun`): each rank takes its share of every batch, gradients are
    averaged, and for losses that are means over the batch the result is that of one process up to rounding. What
    differs: BatchNorm sees a rank's share only (unless the model uses SyncBatchNorm; running statistics are rank 0's),
    losses over pairs see the pairs within a share, and each rank has its own dropout stream. The checkpoint's folder
    must be shared.

    Raises
    ------
    NonFiniteLoss
        Before the weights are touched by that step; names the step and the terms.
    CheckpointError
        The file is damaged or belongs to another run; says what differs.
    TypeError, ValueError
        The objective returned no dict of named scalars, or `weights` names an unknown term.
    """
    _check(steps=steps, precision=precision, checkpoint_every=checkpoint_every)
    here = world(device)
    weights, stateful, schedule = weights or {}, stateful or {}, schedule or warmup_cosine(steps)
    modules = [model.to(here.device, memory_format=torch.channels_last)]
    modules += [thing.to(here.device) for thing in stateful.values() if isinstance(thing, nn.Module)]
    if optimizer is None:
        parameters = list(dict.fromkeys(p for module in modules for p in module.parameters()))
        optimizer = torch.optim.Adam(parameters, lr, weight_decay=weight_decay, fused=True)
    run = _Run()
    kept = {"run": run, "model": model, "optimizer": optimizer} | {f"stateful {k}": v for k, v in stateful.items()}
    settings = {
        "steps": steps,
        "seed": seed,
        "precision": precision,
        "processes": here.size,
        "weights": dict(weights),
        "batches an epoch": "set by before_epoch" if before_epoch else len(batches),
        "schedule": [round(schedule(step), 6) for step in (0, steps // 4, steps // 2, 3 * steps // 4, steps - 1)],
        "optimizer": _hyperparameters(optimizer),
        "stateful": sorted(stateful),
        "model": checkpoints.signature(model.state_dict()),
    }
    if checkpoint is not None and Path(checkpoint).exists():
        _restore(checkpoint, kept, settings)
        if run.step == steps:
            return run.history()

    def agree_on_buffers() -> None:
        agree(here, (buffer for module in modules for buffer in module.buffers()))

    def keep() -> None:
        agree_on_buffers()
        if checkpoint is not None and here.rank == 0:
            checkpoints.save(checkpoint, {"settings": settings} | {k: v.state_dict() for k, v in kept.items()})

    if precision == "bf16" and here.device.type == "cpu" and here.rank == 0 and _emulates_bf16():
        warnings.warn("this processor only emulates bf16: a step takes several times as long as 'no'", stacklevel=2)
    agree(here, (tensor for module in modules for tensor in (*module.parameters(), *module.buffers())))
    shown = bar(steps, "fit", "step", show=progress and here.rank == 0, initial=run.step)
    with shown, callers_randomness_kept(here.device), _last_outputs(model, here.device, precision) as outputs:
        began, saved = time.perf_counter() - run.seconds, run.step
        while run.step < steps:
            if run.position == 0:
                agree_on_buffers()
                seed_all(seed, 0, run.epoch)
                if before_epoch:
                    before_epoch(run.epoch)
            model.train()
            for batch in batches.epoch(
                run.epoch, device=here.device, rank=here.rank, world=here.size, skip=run.position
            ):
                seed_all(seed, 1, run.step, here.rank)
                outputs.clear()
                row, images = _update(model, objective, batch, run.step, weights, optimizer, schedule(run.step), here)
                if after_step:
                    with torch.no_grad():
                        share = len(batch.pids)
                        after_step(whole(here, batch, share), whole(here, outputs.get("last"), share))
                run.add(row, images, time.perf_counter() - began)
                shown.update()
                shown.set_postfix(loss=f"{row['loss']:.3f}", refresh=False)
                if run.step == steps:
                    break
                if checkpoint_every and not before_epoch and run.step - saved >= checkpoint_every:
                    keep()
                    saved = run.step
            else:
                run.end_epoch()
                if run.step - saved >= (checkpoint_every or 1):
                    keep()
                    saved = run.step
        keep()
    return run.history()


@dataclass
class _Run:
    """Where a run stands: `step` steps done, the next batch is number `position` of `epoch`."""

    step: int = 0
    epoch: int = 0
    position: int = 0
    images: int = 0
    seconds: float = 0.0
    rows: list[dict[str, float]] = field(default_factory=list)

    def add(self, row: dict[str, float], images: int, seconds: float) -> None:
        self.rows.append({"step": self.step, "epoch": self.epoch, **row})
        self.step, self.position = self.step + 1, self.position + 1
        self.images, self.seconds = self.images + images, seconds

    def end_epoch(self) -> None:
        if self.position == 0:
            raise ValueError(f"epoch {self.epoch} of `batches` is empty: nothing to train on")
        self.epoch, self.position = self.epoch + 1, 0

    def history(self) -> History:
        frame = pd.DataFrame(self.rows).astype({"step": "int64", "epoch": "int64"})
        return History(frame, self.seconds, self.images / self.seconds)

    def state_dict(self) -> dict[str, Any]:
        frame = self.history().frame
        return vars(self) | {"rows": {"columns": list(frame), "values": frame.to_numpy("float64")}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        rows = state["rows"]
        vars(self).update(state, rows=pd.DataFrame(rows["values"], columns=rows["columns"]).to_dict("records"))


def _update(
    model: nn.Module,
    objective: Callable,
    batch: Any,
    step: int,
    weights: Mapping[str, float],
    optimizer: torch.optim.Optimizer,
    factor: float,
    here: World,
) -> tuple[dict[str, float], int]:
    """One optimiser step. Returns what it logs (lr, loss, each term) and its number of images, over all ranks."""
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    for parameter in (*trained, *model.parameters()):
        parameter.grad = None
    terms = _checked(objective(model, batch, step), weights, step, here.device)
    total = torch.stack([weights.get(name, 1.0) * term for name, term in terms.items()]).sum()
    if not total.requires_grad:
        raise ValueError(f"step {step}: no term depends on the model's parameters: {', '.join(terms)}")
    values = torch.stack([term.detach() for term in terms.values()])  # (T,)
    share, images, values = batch_means(here, values, len(batch.pids))
    (total * share).backward()
    average_gradients(here, trained)
    norm = get_total_norm([p.grad for p in trained if p.grad is not None])
    *values, norm = torch.cat([values, norm[None].to(values)]).tolist()  # the step's only wait for the device
    losses = dict(zip(terms, values, strict=True))
    _refuse_non_finite(losses, norm, step)
    rates = [group["lr"] for group in optimizer.param_groups]
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate * factor
    row = {"lr": optimizer.param_groups[0]["lr"], "loss": sum(weights.get(k, 1.0) * v for k, v in losses.items())}
    optimizer.step()
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate  # the schedule's factor never stays in the optimiser
    return row | losses, images


def _checked(terms: Any, weights: Mapping[str, float], step: int, device: torch.device) -> dict[str, Tensor]:
    """The objective's terms, or an error that says what it should have returned."""
    if not isinstance(terms, Mapping) or not terms:
        raise TypeError(
            f"step {step}: the objective must return a dict of named scalar tensors, "
            f'e.g. {{"id": loss}}; it returned {"an empty one" if isinstance(terms, Mapping) else type(terms).__name__}'
        )
    for name, term in terms.items():
        if not isinstance(term, Tensor) or term.ndim != 0:
            what = f"shape {tuple(term.shape)}" if isinstance(term, Tensor) else type(term).__name__
            raise TypeError(f"step {step}: the loss term {name!r} must be a scalar tensor (shape ()), not {what}")
        if name in COLUMNS:
            raise ValueError(
                f"step {step}: a loss term cannot be named {name!r}: the history has a column of that name"
            )
    if unknown := [name for name in weights if name not in terms]:
        raise ValueError(
            f"step {step}: weights name {', '.join(map(repr, unknown))}, but the objective returned "
            f"{', '.join(map(repr, terms))} (a term that starts later returns a zero until then)"
        )
    return {name: term.to(device) for name, term in terms.items()}  # a constant 0 may have been made anywhere


def _refuse_non_finite(losses: Mapping[str, float], norm: float, step: int) -> None:
    bad = [name for name, value in losses.items() if not math.isfinite(value)]
    if not bad and math.isfinite(norm):
        return
    shown = ", ".join(f"{name} = {value:.4g}" for name, value in losses.items())
    what = (
        f"the loss term {', '.join(map(repr, bad))} is not finite"
        if bad
        else "every loss is finite, but a gradient is not"
    )
    raise NonFiniteLoss(
        f"step {step}: {what} ({shown}). The weights are those before this step. Look for a square root or a division "
        "at 0, or a learning rate that is too high; torch.autograd.set_detect_anomaly(True) names the operation.",
        step,
        bad,
    )


def _restore(path: str | Path, kept: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Fill the kept objects from a checkpoint of the same run."""
    state = checkpoints.load(path)
    if lines := checkpoints.differences(state.get("settings", {}), settings):
        raise checkpoints.CheckpointError(
            f"{path} belongs to another run (checkpoint / asked):\n"
            + "\n".join(lines)
            + "\nGive another file, or delete it."
        )
    for name, thing in kept.items():
        try:
            thing.load_state_dict(state[name])
        except Exception as error:
            raise checkpoints.CheckpointError(f"{path}: could not restore {name}: {error}") from error
    optimizer = kept["optimizer"]
    for (
        parameter,
        moments,
    ) in optimizer.state.items():  # same memory layout as in an unbroken run, for the same rounding
        for name, value in moments.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                moments[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _hyperparameters(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    groups = enumerate(optimizer.param_groups)
    return {"class": type(optimizer).__name__} | {
        f"group {i}": {k: len(v) if k == "params" else repr(v) for k, v in group.items()} for i, group in groups
    }


@contextmanager
def _last_outputs(model: nn.Module, device: torch.device, precision: str) -> Iterator[dict[str, Any]]:
    """A dict whose "last" is what the model last returned, detached; its forward runs under autocast if asked."""
    seen: dict[str, Any] = {}
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")

    def before(module: nn.Module, inputs: Any) -> None:
        autocast.__enter__()

    def after(module: nn.Module, inputs: Any, outputs: Any) -> Any:
        autocast.__exit__(None, None, None)
        outputs = convert_to_fp32(outputs)
        seen["last"] = recursively_apply(Tensor.detach, outputs)
        return outputs

    hooks = [model.register_forward_pre_hook(before), model.register_forward_hook(after, always_call=True)]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _emulates_bf16() -> bool:
    """Whether this is an x86 processor that cannot multiply bfloat16 itself."""
    own = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.cpu._is_avx2_supported() and not own


def _fractions(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} = {value}: give it as a fraction of the run, from 0 to 1")


def _check(*, steps: int, precision: str, checkpoint_every: int | None) -> None:
    if steps < 1 or steps % 1:
        raise ValueError(f"steps={steps}: expected a whole number of optimiser steps, at least one")
    if precision not in ("no", "bf16"):
        raise ValueError(f"precision={precision!r}: choose 'no' (float32) or 'bf16'")
    if checkpoint_every is not None and checkpoint_every < 1:
        raise ValueError(f"checkpoint_every={checkpoint_every}: it counts steps, from 1 on")
