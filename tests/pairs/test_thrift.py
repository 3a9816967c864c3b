"""Thrift's compact protocol."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stsb_batch.pairs.thrift import (
    BINARY,
    DOUBLE,
    FALSE,
    I16,
    I32,
    I64,
    LIST,
    STRUCT,
    TRUE,
    Struct,
    ThriftError,
    Truncated,
    read_struct,
    write_struct,
)

scalars = st.one_of(
    st.tuples(st.just(I16), st.integers(-(2**15), 2**15 - 1)),
    st.tuples(st.just(I32), st.integers(-(2**31), 2**31 - 1)),
    st.tuples(st.just(I64), st.integers(-(2**63), 2**63 - 1)),
    st.tuples(st.just(BINARY), st.binary(max_size=300)),
    st.tuples(st.just(DOUBLE), st.floats(allow_nan=False)),
    st.sampled_from([(TRUE, True), (FALSE, False)]),
    st.tuples(st.just(LIST), st.tuples(st.just(I64), st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20))),
)
structs = st.recursive(
    st.dictionaries(st.integers(1, 400), scalars, max_size=4).map(Struct),
    lambda inner: st.dictionaries(
        st.integers(1, 400),
        st.one_of(
            scalars,
            st.tuples(st.just(STRUCT), inner),
            st.tuples(st.just(LIST), st.tuples(st.just(STRUCT), st.lists(inner, max_size=3))),
        ),
        max_size=4,
    ).map(Struct),
    max_leaves=10,
)


@given(structs)
def test_what_is_written_is_read_again(fields: Struct):
    """Law: reading what was written gives the same struct, to its last byte; cut anywhere it says so."""
    content = write_struct(fields)
    assert read_struct(content) == (fields, len(content))
    with pytest.raises(Truncated):
        read_struct(content[:-1])


@given(st.binary(max_size=200))
def test_any_bytes_are_a_struct_or_an_error(content: bytes):
    """Whatever bytes come, the only error is `ThriftError`."""
    try:
        fields, end = read_struct(content)
    except ThriftError:
        return
    assert isinstance(fields, Struct)
    assert end <= len(content)


def test_footers_are_written_byte_for_byte():
    """A footer of pyarrow, read and written, is the same bytes."""
    file = io.BytesIO()
    pq.write_table(
        pa.table({"a": [1.5, None], "b": [["x"], []], "c": [True, False]}), file, row_group_size=1, write_page_index=True
    )
    content = file.getvalue()
    footer = content[-8 - int.from_bytes(content[-8:-4], "little") : -8]
    assert write_struct(read_struct(footer)[0]) == footer
