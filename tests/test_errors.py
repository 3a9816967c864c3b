"""The errors: each has its exit code and a meaning, and foreign ones get the right kind."""

import errno

import pytest

from stsb_batch import errors


def kinds() -> list[type[errors.StsbBatchError]]:
    found = vars(errors).values()
    return [kind for kind in found if isinstance(kind, type) and issubclass(kind, errors.StsbBatchError)]


@pytest.mark.parametrize("kind", kinds())
def test_each_error_has_an_exit_code_with_a_meaning(kind: type[errors.StsbBatchError]):
    """No code without words for people."""
    assert errors.EXIT_CODES[kind.exit_code]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.EACCES, errors.PermissionDeniedError),
        (errno.ENOSPC, errors.StorageError),
        (errno.EDQUOT, errors.StorageError),
        (errno.EROFS, errors.CannotCreateError),
        (errno.EIO, errors.StorageError),
    ],
)
def test_errors_of_the_system_get_the_right_kind(code: int, kind: type[errors.StsbBatchError]):
    """The line names what was being done, and where."""
    found = errors.storage_error(OSError(code, "reason"), "writing", "some/place")
    assert type(found) is kind
    assert "some/place" in str(found)


def test_a_name_is_shown_without_what_moves_the_cursor():
    """Control and format characters are escaped, everything else stays."""
    assert errors.escape_control("a\x1b[2J\u202eb ü 火") == "a\\x1b[2J\\u202eb ü 火"
