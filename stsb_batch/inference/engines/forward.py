"""Our own forward pass of BERT and DistilBERT classifiers, without padding.

Query, key and value are one product, and in the last layer only the first token is carried on, because the head reads no
other: the same algebra as transformers' with a seventh less work. A batch is a rectangle of pairs of one length, or any
pairs one after the other (packed); either way there is no mask, and a pair's arithmetic does not depend on its neighbours.
Tested against transformers in fp32.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import nn

from stsb_batch.inference.engines import plain

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]  # query, key, value, each (..., hidden)
First = Callable[[torch.Tensor], torch.Tensor]  # of (..., hidden) the first token of each pair


class Layer(nn.Module):
    """One encoder layer with normalisation after each half (Vaswani et al. 2017), as BERT has it."""

    def __init__(
        self,
        query: nn.Linear,
        key: nn.Linear,
        value: nn.Linear,
        attended: nn.Linear,
        norm: nn.LayerNorm,
        up: nn.Linear,
        down: nn.Linear,
        norm_out: nn.LayerNorm,
    ) -> None:
        super().__init__()
        self.qkv_weight = nn.Parameter(torch.cat([part.weight for part in (query, key, value)]), requires_grad=False)
        self.qkv_bias = nn.Parameter(torch.cat([part.bias for part in (query, key, value)]), requires_grad=False)
        self.attended, self.norm, self.up, self.down, self.norm_out = attended, norm, up, down, norm_out

    def forward(self, x: torch.Tensor, attend: Attend, first: First | None, kernels: ModuleType) -> torch.Tensor:
        """Carry tokens (..., hidden) on; with `first` the first token of each pair alone."""
        size = x.shape[-1]
        if first:
            key, value = F.linear(x, self.qkv_weight[size:], self.qkv_bias[size:]).split(size, -1)
            x = first(x)
            query = F.linear(x, self.qkv_weight[:size], self.qkv_bias[:size])
        else:
            query, key, value = F.linear(x, self.qkv_weight, self.qkv_bias).split(size, -1)
        x = kernels.add_norm(self.attended(attend(query, key, value)), x, self.norm)
        return kernels.add_norm(self.down(F.gelu(self.up(x))), x, self.norm_out)


class Encoder(nn.Module):
    """The parts of a classifier. `kernels` is a module that has `attend` and `add_norm` as `plain` has them."""

    kernels: ModuleType

    def __init__(
        self,
        words: nn.Embedding,
        positions: nn.Embedding,
        token_types: nn.Embedding | None,
        norm: nn.LayerNorm,
        layers: list[Layer],
        head: nn.Sequential,
        heads: int,
    ) -> None:
        super().__init__()
        self.words, self.positions, self.token_types, self.norm = words, positions, token_types, norm
        self.layers, self.head, self.heads = nn.ModuleList(layers), head, heads
        self.kernels = plain

    def _carry(
        self,
        words: torch.Tensor,
        positions: torch.Tensor,
        token_type_ids: torch.Tensor | None,
        attend: Attend,
        last: Attend,
        first: First,
    ) -> torch.Tensor:
        """From embedded words and positions (..., hidden) to scores; `last` mixes in the last layer."""
        if self.token_types is not None:
            words, positions = words + positions, self.token_types(token_type_ids)
        x = self.kernels.add_norm(words, positions, self.norm)
        for layer in self.layers[:-1]:
            x = layer(x, attend, None, self.kernels)
        x = self.layers[-1](x, last, first, self.kernels)
        return self.head(x.to(next(self.head.parameters()).dtype))[..., 0]


class ExactForward(Encoder):
    """Token ids (pairs, tokens), for BERT also token type ids, to scores (pairs,): all pairs have the same length."""

    def forward(self, input_ids: torch.Tensor, token_type_ids: torch.Tensor | None = None) -> torch.Tensor:
        words, positions = self.words(input_ids), self.positions.weight[: input_ids.shape[1]]
        return self._carry(words, positions, token_type_ids, self._attend, self._attend, lambda x: x[:, :1])[:, 0]

    def _attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        q, k, v = (plain.split_heads(x, self.heads) for x in (query, key, value))
        mixed = F.scaled_dot_product_attention(q, k, v)
        return mixed.transpose(1, 2).reshape(query.shape)


class PackedForward(Encoder):
    """Pairs one after the other to scores (pairs,)."""

    def forward(self, numbers: torch.Tensor, capacity: int, pairs: int, longest: int) -> torch.Tensor:
        """Score a `PackedBatch`: at most `pairs` pairs have tokens, each at most `longest`."""
        tokens = (len(numbers) - 2 * capacity) // 3
        ids, positions, token_type_ids = numbers[: 3 * tokens].view(3, tokens)
        starts, lengths = numbers[3 * tokens :].view(2, capacity)
        layout = (starts[:pairs], lengths[:pairs], longest, self.heads)
        return self._carry(
            self.words(ids),
            self.positions(positions),
            token_type_ids,
            attend=lambda query, key, value: self.kernels.attend(query, key, value, *layout, first=False),
            last=lambda query, key, value: self.kernels.attend(query, key, value, *layout, first=True),
            first=lambda x: x.index_select(0, starts.clamp(max=tokens - 1)),
        )


Kind = TypeVar("Kind", bound=Encoder)


def exact_forward(model: Any, kind: type[Kind]) -> Kind | None:
    """Rebuild a loaded transformers classifier, sharing its weights; None for architectures that are not proven."""
    config, name = model.config, type(model).__name__
    if name == "BertForSequenceClassification" and config.hidden_act == "gelu" and not config.is_decoder:
        embeddings, token_types = model.bert.embeddings, model.bert.embeddings.token_type_embeddings
        layers, heads = [_bert_layer(layer) for layer in model.bert.encoder.layer], config.num_attention_heads
        head = nn.Sequential(model.bert.pooler.dense, nn.Tanh(), model.classifier)
    elif name == "DistilBertForSequenceClassification" and config.activation == "gelu":
        embeddings, token_types = model.distilbert.embeddings, None
        layers, heads = [_distilbert_layer(layer) for layer in model.distilbert.transformer.layer], config.n_heads
        head = nn.Sequential(model.pre_classifier, nn.ReLU(), model.classifier)
    else:
        return None
    words, positions, norm = embeddings.word_embeddings, embeddings.position_embeddings, embeddings.LayerNorm
    return kind(words, positions, token_types, norm, layers, head, heads).eval()


def _bert_layer(layer: Any) -> Layer:
    mix, out = layer.attention.self, layer.attention.output
    up, down = layer.intermediate.dense, layer.output
    return Layer(mix.query, mix.key, mix.value, out.dense, out.LayerNorm, up, down.dense, down.LayerNorm)


def _distilbert_layer(layer: Any) -> Layer:
    mix, ffn = layer.attention, layer.ffn
    return Layer(
        mix.q_lin, mix.k_lin, mix.v_lin, mix.out_lin, layer.sa_layer_norm, ffn.lin1, ffn.lin2, layer.output_layer_norm
    )
