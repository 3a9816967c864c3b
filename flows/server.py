"""Which Prefect server this machine talks to, from the environment or the active profile, and where Prefect's files lie."""

from base64 import b64encode
from pathlib import Path

from prefect.settings import get_current_settings


def server_address() -> tuple[str | None, dict[str, str]]:
    """Return the server's API address (None: each run brings its own) and the headers that authenticate us, if any."""
    api = get_current_settings().api
    if api.key:
        return api.url, {"Authorization": f"Bearer {api.key.get_secret_value()}"}
    if api.auth_string:
        encoded = b64encode(api.auth_string.get_secret_value().encode()).decode()
        return api.url, {"Authorization": f"Basic {encoded}"}
    return api.url, {}


def prefect_home() -> Path:
    """Return the folder of Prefect's own files: database of a server that is started here, results, profiles."""
    return get_current_settings().home
