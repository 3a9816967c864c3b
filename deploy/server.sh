#!/bin/sh
# Start the Prefect server on loopback, or on the address PREFECT_SERVER_API_HOST, which then needs a password:
# everyone who reaches the API can run code on the workers.
set -eu
host=${PREFECT_SERVER_API_HOST:-127.0.0.1}
case $host in
127.0.0.1 | localhost | ::1) ;;
*)
    case ${PREFECT_SERVER_API_AUTH_STRING:-} in
    ?*:?*) ;;
    *)
        echo "PREFECT_SERVER_API_HOST=$host is not loopback and PREFECT_SERVER_API_AUTH_STRING is not set." \
            "Set it to user:password, and PREFECT_API_AUTH_STRING to the same value on workers and clients." >&2
        exit 78
        ;;
    esac
    ;;
esac
# The UI calls the address that it was loaded from, also behind a proxy, and is unpacked to a folder that is writable.
export PREFECT_SERVER_UI_API_URL="${PREFECT_SERVER_UI_API_URL:-/api}"
export PREFECT_SERVER_UI_STATIC_DIRECTORY="${PREFECT_SERVER_UI_STATIC_DIRECTORY:-${PREFECT_HOME:-$HOME/.prefect}/ui}"
exec prefect server start --host "$host" --port "${PREFECT_SERVER_API_PORT:-4200}"
