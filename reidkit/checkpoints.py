"""Checkpoints and weights in safetensors files: whole or not at all, checked on reading, and never able to run code.

Tensors and arrays are stored as such; the structure around them (dicts, lists, numbers) travels as JSON in the file's
metadata, with a checksum of every byte of data.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

FORMAT = "reidkit-1"


class CheckpointError(ValueError):
    """A checkpoint that is broken, or that belongs to another run. The message names the file and what is wrong."""


def save(path: str | Path, state: Any) -> None:
    """Write nested dicts, lists and tuples of tensors, arrays, numbers, strings and None, whole or not at all.

    Raises TypeError where a value is of another kind, naming its place.
    """
    tensors: dict[str, Tensor] = {}
    structure = _pack(state, "state", tensors)
    _write(Path(path), tensors, {"format": FORMAT, "structure": json.dumps(structure)})


def load(path: str | Path) -> Any:
    """What `save` wrote, bit for bit; tensors on the CPU. Raises CheckpointError if the file is broken or foreign."""
    tensors, metadata = _read(Path(path))
    if metadata.get("format") != FORMAT or "structure" not in metadata:
        raise CheckpointError(f"{path} is not a checkpoint of this version ({FORMAT}): give another file, or delete it")
    return _unpack(json.loads(metadata["structure"]), tensors)


def save_weights(path: str | Path, model: nn.Module) -> None:
    """Write a module's parameters and buffers under their own names: a plain safetensors file."""
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    _write(Path(path), tensors, {"format": "pt"})


def load_weights(path: str | Path, model: nn.Module) -> None:
    """Fill `model` from such a file; nothing is changed unless every name and shape agrees.

    Raises CheckpointError (what differs, name by name) or FileNotFoundError.
    """
    tensors, metadata = _read(Path(path))
    if metadata.get("format") == FORMAT:
        raise CheckpointError(
            f"{path} is a checkpoint of a run, not weights alone: its model's are load(path)['model']"
        )
    lines = differences(signature(tensors), signature(model.state_dict()))
    if lines:
        raise CheckpointError(f"{path} does not fit this model (file / model):\n" + "\n".join(lines))
    model.load_state_dict(tensors)


def signature(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Name -> shape and type, e.g. {"neck.weight": "128x64 float32"}."""
    return {
        name: f"{'x'.join(map(str, tensor.shape)) or 'scalar'} {str(tensor.dtype).removeprefix('torch.')}"
        for name, tensor in tensors.items()
    }


def differences(stored: Mapping, asked: Mapping, *, most: int = 8) -> list[str]:
    """One line per entry in which two nested mappings differ, `name: stored / asked`; at most `most` and a count."""
    stored, asked = dict(_leaves(stored)), dict(_leaves(asked))
    lines = [
        f"  {name}: {stored.get(name, '(absent)')} / {asked.get(name, '(absent)')}"
        for name in dict.fromkeys([*stored, *asked])
        if name not in stored or name not in asked or stored[name] != asked[name]
    ]
    return lines if len(lines) <= most else [*lines[:most], f"  ... and {len(lines) - most} more"]


def _leaves(mapping: Mapping, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    total = 0
    for name in sorted(tensors):
        total = zlib.crc32(
            tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy(), zlib.crc32(name.encode(), total)
        )
    return f"{total:08x}"


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file(tensors, temporary, metadata={**metadata, "crc32": _checksum(tensors)})
        os.replace(temporary, path)
    except SafetensorError as error:  # a full disk, say
        raise OSError(f"cannot write {path}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is truncated or not a safetensors file ({error}): delete it to start afresh"
        ) from error
    if metadata.get("crc32", _checksum(tensors)) != _checksum(tensors):
        raise CheckpointError(f"{path} is damaged (its checksum does not match): delete it to start afresh")
    return tensors, metadata


def _pack(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    """JSON for a nested value; tensors go to `tensors` under their place."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        _put(tensors, place, value.detach().cpu().contiguous().clone())  # safetensors refuses tensors that share memory
        return {"tensor": place}
    if isinstance(value, np.ndarray | np.generic):
        try:
            tensor = torch.tensor(value).contiguous()
        except TypeError:
            raise TypeError(f"a checkpoint cannot hold {place}: an array of {value.dtype}") from None
        _put(tensors, place, tensor)
        return {"scalar" if isinstance(value, np.generic) else "array": place}
    if isinstance(value, Mapping):  # keys keep their type: an optimiser's are ints
        return {"dict": [[_key(k, place), _pack(v, f"{place}.{k}", tensors)] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        items = [_pack(item, f"{place}.{i}", tensors) for i, item in enumerate(value)]
        return {"tuple" if isinstance(value, tuple) else "list": items}
    raise TypeError(
        f"a checkpoint cannot hold {place}: {type(value).__name__}; use tensors, arrays, numbers, strings, dicts, lists"
    )


def _put(tensors: dict[str, Tensor], place: str, tensor: Tensor) -> None:
    if place in tensors:
        raise TypeError(f"a checkpoint cannot hold {place} twice: two keys spell the same place; rename one")
    tensors[place] = tensor


def _key(key: Any, place: str) -> Any:
    if not isinstance(key, str | int):
        raise TypeError(f"a checkpoint cannot hold {place}: its key {key!r} is neither a string nor an int")
    return key


def _unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "array":
        return tensors[content].numpy()
    if kind == "scalar":
        return tensors[content].numpy()[()]
    if kind == "dict":
        return {key: _unpack(item, tensors) for key, item in content}
    items = [_unpack(item, tensors) for item in content]
    return tuple(items) if kind == "tuple" else items
