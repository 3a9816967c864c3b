#!/bin/sh
# Start the Prefect server: on loopback, unless PREFECT_SERVER_API_HOST names another address, which needs a password.
# Whoever reaches the API can run code on the workers.
set -eu
host=${PREFECT_SERVER_API_HOST:-127.0.0.1}
case $host in
127.0.0.1 | localhost | ::1) ;;
*)
    case ${PREFECT_SERVER_API_AUTH_STRING:-} in
    ?*:?*) ;;
    *)
        echo "PREFECT_SERVER_API_HOST=$host is not loopback and PREFECT_SERVER_API_AUTH_STRING is not set." \
            "Set it to user:password here, and PREFECT_API_AUTH_STRING to the same where workers and people are." >&2
        exit 78
        ;;
    esac
    ;;
esac
# The page asks the address that it came from, be it a proxy's, and is unpacked where this user may write.
export PREFECT_SERVER_UI_API_URL="${PREFECT_SERVER_UI_API_URL:-/api}"
export PREFECT_SERVER_UI_STATIC_DIRECTORY="${PREFECT_SERVER_UI_STATIC_DIRECTORY:-${PREFECT_HOME:-$HOME/.prefect}/ui}"
exec prefect server start --host "$host" --port "${PREFECT_SERVER_API_PORT:-4200}"
