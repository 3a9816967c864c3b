"""What the packed forward pass needs beyond matrix products, with torch's own operations: correct on every device.

`kernels` has the same two functions, made for CUDA.
"""

import torch
import torch.nn.functional as F
from torch import nn


def add_norm(x: torch.Tensor, residual: torch.Tensor, norm: nn.LayerNorm) -> torch.Tensor:
    """Return the layer norm of the sum of two tensors (..., hidden)."""
    return norm(x + residual)


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
    """Let each token of pair i, which stands at `starts[i]` and has `lengths[i]` tokens, attend to the tokens of that pair.

    `key`, `value` (tokens, hidden) · `query` as well, or with `first` one token of each pair (capacity, hidden), where the
    capacity may be above the pairs · `starts`, `lengths` (pairs,) int32, in order, with pairs of no tokens last. Returns the
    shape of `query`; what stands at tokens of no pair means nothing.
    """
    steps = torch.arange(longest, device=key.device, dtype=starts.dtype)
    places = (starts[:, None] + steps).clamp(max=len(key) - 1)
    mask = (steps < lengths[:, None])[:, None, None, :]
    queries = query[: len(starts), None] if first else query[places]
    q, k, v = (split_heads(x, heads) for x in (queries, key[places], value[places]))
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).reshape(queries.shape)
    if first:
        return F.pad(mixed[:, 0], (0, 0, 0, len(query) - len(starts)))
    tokens = torch.arange(len(key), device=key.device, dtype=starts.dtype)
    pair = (torch.searchsorted(starts, tokens, right=True) - 1).clamp(min=0)
    return mixed.flatten(0, 1)[pair * longest + (tokens - starts[pair]).clamp(max=longest - 1)]


def split_heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """Turn (pairs, tokens, hidden) into (pairs, heads, tokens, hidden / heads)."""
    return x.view(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)
