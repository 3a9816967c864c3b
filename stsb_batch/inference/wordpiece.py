"""BERT's tokenisation of printable ASCII in numpy, with the ids of `tokenizers`: many chunks at once.

Cleaning, accents and CJK spacing leave such text as it is. What remains is lower-casing, the split at punctuation and the
greedy longest match (Wu et al. 2016), for which all words walk through a trie of the vocabulary together.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stsb_batch.inference.ragged import RaggedIds, gather

PUNCTUATION = r"([!-/:-@\[-`{-~])"  # what BERT's pre-tokeniser takes for it in ASCII
FIRST, CHARACTERS = ord("!"), ord("~") - ord("!") + 1
PRINTABLE = set(map(chr, range(FIRST, FIRST + CHARACTERS)))
DEAD, WORD, REST = 0, 1, 2  # nodes: no token continues here; the start of a word; the start of a later piece of a word


def is_printable(texts: pa.LargeStringArray) -> pa.BooleanArray:
    """Say which texts consist of printable ASCII, without spaces."""
    return pc.match_substring_regex(texts, "^[!-~]+$")


class AsciiWordPiece:
    """A WordPiece model with an unknown token, as its tokeniser is serialised."""

    def __init__(self, parts: dict) -> None:
        model = parts["model"]
        self._unknown, self._longest = model["vocab"][model["unk_token"]], model["max_input_chars_per_word"]
        self._lower = parts["normalizer"]["lowercase"]
        prefix = model["continuing_subword_prefix"]
        tokens = [(WORD, token, number) for token, number in model["vocab"].items()]
        tokens += [(REST, token.removeprefix(prefix), number) for _, token, number in tokens if token.startswith(prefix)]
        self._children, self._tokens = _trie([each for each in tokens if each[1] and set(each[1]) <= PRINTABLE])

    def encode(self, chunks: pa.LargeStringArray) -> RaggedIds:
        """Encode chunks (chunks,) of printable ASCII."""
        lowered = pc.ascii_lower(chunks) if self._lower else chunks
        spaced = pc.replace_substring_regex(lowered, PUNCTUATION, r" \1 ")
        split = pc.ascii_split_whitespace(pc.ascii_trim_whitespace(spaced))
        occurring = split.flatten().dictionary_encode()
        return gather(self._match(occurring.dictionary), occurring.indices.to_numpy(), split.offsets.to_numpy())

    def _match(self, words: pa.LargeStringArray) -> RaggedIds:
        """Cut each word into the longest tokens from its start on; a word that cannot be cut is the unknown token."""
        offsets = np.frombuffer(words.buffers()[1], np.int64)[words.offset : words.offset + len(words) + 1]
        letters = np.append(np.frombuffer(words.buffers()[2] or b"", np.uint8) - np.uint8(FIRST), np.uint8(0))
        unknown = np.diff(offsets) > self._longest
        word = np.flatnonzero(~unknown)
        at, end = offsets[word].astype(np.int32), offsets[word + 1].astype(np.int32)
        node, found, stop = np.full_like(at, WORD), np.full_like(at, -1), at  # the longest token so far, and where it ends
        owners, ids = [word[:0]], [found[:0]]
        while len(word):
            step = self._children[node, letters[at]]
            step[at >= end] = DEAD
            alive = step != DEAD
            node, at = step, at + alive
            longer = self._tokens[node] >= 0
            found, stop = np.where(longer, self._tokens[node], found), np.where(longer, at, stop)
            if alive.all():
                continue
            cut, lost = ~alive & (found >= 0), ~alive & (found < 0)
            owners.append(word[cut])
            ids.append(found[cut])
            unknown[word[lost]] = True
            going = ~lost & ~(cut & (stop == end))
            at = np.where(cut, stop, at)
            node[cut], found[cut] = REST, -1
            word, at, end, node, found, stop = (state[going] for state in (word, at, end, node, found, stop))
        return self._in_order(np.concatenate(owners), np.concatenate(ids), unknown)

    def _in_order(self, owners: np.ndarray, ids: np.ndarray, unknown: np.ndarray) -> RaggedIds:
        """Put pieces in the order of their words; what was found of a word that is unknown counts for nothing."""
        known = ~unknown[owners]
        owners = np.concatenate([owners[known], np.flatnonzero(unknown)])
        ids = np.concatenate([ids[known], np.full(unknown.sum(), self._unknown)])
        sizes = np.bincount(owners, minlength=len(unknown))
        return RaggedIds(ids[np.argsort(owners, kind="stable")].astype(np.int32), np.concatenate([[0], np.cumsum(sizes)]))


def _trie(tokens: list[tuple[int, str, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Build a trie of (start node, text, id): children (nodes, CHARACTERS), and the token that ends at each node or -1.

    Level by level: tokens that have the same node and the next character in common share the next node.
    """
    lengths = np.array([len(text) for _, text, _ in tokens])
    letters = np.frombuffer("".join(text for _, text, _ in tokens).encode(), np.uint8).astype(np.int64) - FIRST
    starts, node = np.cumsum(lengths) - lengths, np.array([start for start, _, _ in tokens])
    count, edges = REST + 1, []
    for depth in range(lengths.max()):
        deeper = np.flatnonzero(lengths > depth)
        keys, place = np.unique(node[deeper] * CHARACTERS + letters[starts[deeper] + depth], return_inverse=True)
        node[deeper] = count + place
        edges.append(keys)
        count += len(keys)
    children, ending = np.zeros((count, CHARACTERS), np.int32), np.full(count, -1, np.int32)
    children.reshape(-1)[np.concatenate(edges)] = np.arange(REST + 1, count)
    ending[node] = [number for _, _, number in tokens]
    return children, ending
