"""Our own forward pass of BERT and DistilBERT classifiers, for batches of pairs that all have the same length.

Without padding there is no mask, and a pair's arithmetic does not depend on its neighbours. Query, key and value are one
product, and in the last layer only the first token is carried on, because the head reads no other: the same algebra as
transformers' with a seventh less work. Tested against it in fp32.
"""

import torch
import torch.nn.functional as F
from torch import nn


class Layer(nn.Module):
    """One encoder layer with normalisation after each half (Vaswani et al. 2017), as BERT has it."""

    def __init__(self, query, key, value, attended, norm, up, down, norm_out, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv_weight = nn.Parameter(torch.cat([part.weight for part in (query, key, value)]), requires_grad=False)
        self.qkv_bias = nn.Parameter(torch.cat([part.bias for part in (query, key, value)]), requires_grad=False)
        self.attended, self.norm, self.up, self.down, self.norm_out = attended, norm, up, down, norm_out

    def forward(self, x: torch.Tensor, first_only: bool) -> torch.Tensor:
        """Carry (pairs, tokens, hidden) on; with `first_only` the first token alone: (pairs, 1, hidden)."""
        size = x.shape[-1]
        if first_only:
            first = x[:, :1]
            query = F.linear(first, self.qkv_weight[:size], self.qkv_bias[:size])
            key, value = F.linear(x, self.qkv_weight[size:], self.qkv_bias[size:]).split(size, -1)
            x = first
        else:
            query, key, value = F.linear(x, self.qkv_weight, self.qkv_bias).split(size, -1)
        mixed = F.scaled_dot_product_attention(self._heads(query), self._heads(key), self._heads(value))
        mixed = mixed.transpose(1, 2).reshape(x.shape)
        x = self.norm(x + self.attended(mixed))
        return self.norm_out(x + self.down(F.gelu(self.up(x))))

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        """(pairs, tokens, hidden) as (pairs, heads, tokens, hidden / heads)."""
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)


class ExactForward(nn.Module):
    """Token ids (pairs, tokens), for BERT also segments, to scores (pairs,)."""

    def __init__(self, words, positions, segments, norm, layers: list[Layer], head: nn.Module) -> None:
        super().__init__()
        self.words, self.positions, self.segments, self.norm = words, positions, segments, norm
        self.layers, self.head = nn.ModuleList(layers), head

    def forward(self, input_ids: torch.Tensor, token_type_ids: torch.Tensor | None = None) -> torch.Tensor:
        x = self.words(input_ids) + self.positions.weight[: input_ids.shape[1]]
        if self.segments is not None:
            x = x + self.segments(token_type_ids)
        x = self.norm(x)
        for layer in self.layers[:-1]:
            x = layer(x, False)
        first = self.layers[-1](x, True)[:, 0]
        return self.head(first.to(self.head[0].weight.dtype))[:, 0]


def exact_forward(model) -> ExactForward | None:
    """Rebuild a loaded transformers classifier, sharing its weights; None for architectures that are not proven."""
    config, kind = model.config, type(model).__name__
    if kind == "BertForSequenceClassification" and config.hidden_act == "gelu" and not config.is_decoder:
        embeddings, body = model.bert.embeddings, model.bert
        layers = [_bert_layer(layer, config.num_attention_heads) for layer in body.encoder.layer]
        head = nn.Sequential(body.pooler.dense, nn.Tanh(), model.classifier)
        segments = embeddings.token_type_embeddings
        return ExactForward(
            embeddings.word_embeddings, embeddings.position_embeddings, segments, embeddings.LayerNorm, layers, head
        ).eval()
    if kind == "DistilBertForSequenceClassification" and config.activation == "gelu":
        embeddings = model.distilbert.embeddings
        layers = [_distilbert_layer(layer, config.n_heads) for layer in model.distilbert.transformer.layer]
        head = nn.Sequential(model.pre_classifier, nn.ReLU(), model.classifier)
        return ExactForward(
            embeddings.word_embeddings, embeddings.position_embeddings, None, embeddings.LayerNorm, layers, head
        ).eval()
    return None


def _bert_layer(layer, heads: int) -> Layer:
    mix, out = layer.attention.self, layer.attention.output
    return Layer(
        mix.query, mix.key, mix.value, out.dense, out.LayerNorm, layer.intermediate.dense, layer.output.dense,
        layer.output.LayerNorm, heads,
    )  # fmt: skip


def _distilbert_layer(layer, heads: int) -> Layer:
    mix, ffn = layer.attention, layer.ffn
    return Layer(
        mix.q_lin, mix.k_lin, mix.v_lin, mix.out_lin, layer.sa_layer_norm, ffn.lin1, ffn.lin2, layer.output_layer_norm, heads
    )
