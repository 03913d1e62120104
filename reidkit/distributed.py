"""What several processes must agree on: gradients, losses, buffers, and the batch that a memory is updated with.

Accelerate's `PartialState` says who is there (`accelerate launch`, `torchrun` or one plain process) and its
collectives move the tensors. Gradients are averaged here, in one message after the backward pass, rather than by a
wrapper around the model: an objective may then call the model several times a step, use its parts by name, and train
modules of its own (`CenterLoss`). With one process every function here does nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast, gather, pad_across_processes, parse_flag_from_env, recursively_apply, reduce
from torch import Tensor, nn


@dataclass(frozen=True)
class World:
    """This process among `size` equal ones, and the device it computes on."""

    rank: int
    size: int
    device: torch.device


def world(device: str | torch.device | None = None) -> World:
    """Who takes part. `device=None`: the launch's own; with one process the accelerator if there is one, else the CPU.

    Only the process group is global (Accelerate's): with one process the device is chosen anew at every call.

    Raises
    ------
    ValueError
        Several processes were launched on another kind of device than the one asked for.
    """
    here = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    if parse_flag_from_env("ACCELERATE_USE_CPU"):  # accelerate launch --cpu
        here = torch.device("cpu")
    asked = here if device is None else torch.device(device)
    state = PartialState(cpu=asked.type == "cpu")
    if state.num_processes == 1:
        return World(0, 1, asked)
    if asked.type != state.device.type:
        raise ValueError(f"{state.num_processes} processes run on {state.device.type}, not on device={device!r}")
    return World(state.process_index, state.num_processes, state.device)


def batch_means(world: World, values: Tensor, size: int) -> tuple[float, int, Tensor]:
    """Means over the whole batch, from this rank's means over its share.

    values  (T,) means over this rank's `size` images.
    Returns the factor by which this rank's loss counts (1 where all shares are equal), the number of images on all
    ranks, and the (T,) means.
    """
    if world.size == 1:
        return 1.0, size, values
    counted = reduce(torch.cat([values.new_ones(1), values]) * size, "sum")  # (1 + T,)
    total = int(counted[0])
    return size * world.size / total, total, counted[1:] / total


def average_gradients(world: World, parameters: Sequence[nn.Parameter]) -> None:
    """Every rank gets the mean of the ranks' gradients; a parameter that no rank used keeps none."""
    if world.size == 1:
        return
    used = torch.tensor([p.grad is not None for p in parameters], device=world.device, dtype=torch.float32)
    flat = [(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1).float() for p in parameters]
    *pieces, used = reduce(torch.cat([*flat, used]), "mean").split([p.numel() for p in parameters] + [len(used)])
    for parameter, piece, is_used in zip(parameters, pieces, used.tolist(), strict=True):
        if is_used:
            parameter.grad = torch.empty_like(parameter).copy_(piece.view_as(parameter))


@torch.no_grad()
def agree(world: World, tensors: Iterable[Tensor]) -> None:
    """Rank 0's values everywhere: weights at the start, BatchNorm's running statistics at each epoch and at the end."""
    if world.size > 1:
        for tensor in tensors:
            tensor.copy_(broadcast(tensor.contiguous().clone()))


def whole(world: World, values: Any, size: int) -> Any:
    """The shares of all ranks, joined along dimension 0 in rank order: a batch or outputs as one process has them.

    values  a tensor, or a (named) tuple, list, dict or dataclass of tensors; those with `size` rows are joined.
    """
    if world.size == 1:
        return values
    if is_dataclass(values):
        return replace(values, **{f.name: whole(world, getattr(values, f.name), size) for f in fields(values)})
    sizes = gather(torch.tensor([size], device=world.device)).tolist()

    def join(tensor: Tensor) -> Tensor:
        if tensor.ndim == 0 or len(tensor) != size:
            return tensor
        shares = gather(pad_across_processes(tensor.contiguous())).chunk(world.size)  # each (largest size, ...)
        return torch.cat([share[:rows] for share, rows in zip(shares, sizes, strict=True)])

    return recursively_apply(join, values)
