"""Two parts of a forward pass that torch's kernels are slow at, in Triton: attention over short texts, and sum and norm.

Flash attention works in tiles of 128 tokens, and a pair has about 28. Same functions as in `plain`.
"""

import torch
import triton
import triton.language as tl
from torch import nn

from stsb_batch.inference.engines.cuda import TILE

ROWS = 4  # that one program normalises


@triton.jit
def _add_norm(
    x_ptr, residual_ptr, weight_ptr, bias_ptr, out_ptr, rows, size, eps, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, COLUMNS)[None, :]
    real = (row < rows) & (column < size)
    place = row * size + column
    x = tl.load(x_ptr + place, real, 0.0).to(tl.float32) + tl.load(residual_ptr + place, real, 0.0).to(tl.float32)
    centred = tl.where(column < size, x - tl.sum(x, 1)[:, None] / size, 0.0)
    scale = tl.rsqrt(tl.sum(centred * centred, 1)[:, None] / size + eps)
    weight = tl.load(weight_ptr + column, column < size, 0.0).to(tl.float32)
    bias = tl.load(bias_ptr + column, column < size, 0.0).to(tl.float32)
    tl.store(out_ptr + place, (centred * scale * weight + bias).to(out_ptr.dtype.element_ty), real)


def add_norm(x: torch.Tensor, residual: torch.Tensor, norm: nn.LayerNorm) -> torch.Tensor:
    """As `plain.add_norm`, with sums in fp32."""
    out, size = torch.empty_like(residual), x.shape[-1]
    rows = x.numel() // size
    _add_norm[(triton.cdiv(rows, ROWS),)](
        x, residual, norm.weight, norm.bias, out, rows, size, norm.eps, ROWS=ROWS, COLUMNS=triton.next_power_of_2(size)
    )
    return out


@triton.jit
def _attend(
    query_ptr, key_ptr, value_ptr, out_ptr, starts_ptr, lengths_ptr, query_row, key_row, out_row, scale,
    FIRST: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr, SIZE: tl.constexpr,
):  # fmt: skip
    """One program takes QUERIES tokens of one head of one pair, and its keys KEYS at a time (Dao et al. 2022)."""
    pair, head, block = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    start, length = tl.load(starts_ptr + pair).to(tl.int64), tl.load(lengths_ptr + pair)
    query_start, queries = (pair.to(tl.int64), tl.minimum(length, 1)) if FIRST else (start, length)
    if block * QUERIES < queries:
        place, column = block * QUERIES + tl.arange(0, QUERIES), head * SIZE + tl.arange(0, SIZE)
        real = (place < queries)[:, None]
        query = tl.load(query_ptr + (query_start + place[:, None]) * query_row + column[None, :], real, 0.0)
        top = tl.full((QUERIES,), float("-inf"), tl.float32)
        total = tl.zeros((QUERIES,), tl.float32)
        mixed = tl.zeros((QUERIES, SIZE), tl.float32)
        for begin in range(0, length, KEYS):
            here = begin + tl.arange(0, KEYS)
            key = tl.load(key_ptr + (start + here[None, :]) * key_row + column[:, None], (here < length)[None, :], 0.0)
            value = tl.load(value_ptr + (start + here[:, None]) * key_row + column[None, :], (here < length)[:, None], 0.0)
            likeness = tl.where((here < length)[None, :], tl.dot(query, key) * scale, float("-inf"))
            higher = tl.maximum(top, tl.max(likeness, 1))
            share, kept = tl.exp(likeness - higher[:, None]), tl.exp(top - higher)
            total = total * kept + tl.sum(share, 1)
            mixed = tl.dot(share.to(value.dtype), value, mixed * kept[:, None])
            top = higher
        out = (mixed / total[:, None]).to(out_ptr.dtype.element_ty)
        tl.store(out_ptr + (query_start + place[:, None]) * out_row + column[None, :], out, real)


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    starts: torch.Tensor,
    lengths: torch.Tensor,
    longest: int,
    heads: int,
    *,
    first: bool,
) -> torch.Tensor:
    """As `plain.attend`, with sums in fp32, and with the same bits for a pair whatever the longest one is."""
    out, size = torch.empty(query.shape, device=query.device, dtype=query.dtype), query.shape[-1] // heads
    _attend[(len(starts), heads, 1 if first else triton.cdiv(longest, TILE))](
        query, key, value, out, starts, lengths, query.stride(0), key.stride(0), out.stride(0), size**-0.5,
        FIRST=first, QUERIES=16 if first else TILE, KEYS=TILE, SIZE=size, num_warps=1,
    )  # fmt: skip
    return out
