#!/usr/bin/env bash
# Score pairs from cron. The arguments are those of `stsb-batch score`:
#   PATH=/opt/stsb-batch/venv/bin:/usr/bin:/bin
#   30 2 * * * /opt/stsb-batch/deploy/examples/cron.sh /srv/pairs -o /srv/scores >>/var/log/stsb-batch.log
# Cron mails what goes to stderr. RETRY_SECONDS is how long to wait while another run holds the output.
set -u

for attempt in 1 2 3; do
  stsb-batch score "$@"
  code=$?
  case $code in
    0) exit 0 ;;
    10) echo "Scored, but many rows have no score: see the lines above." >&2; exit 0 ;;
    11) echo "Scored, but files were left out: see the lines above." >&2; exit 0 ;;
    75) echo "Attempt $attempt of 3: the output is in use, or there was no progress." >&2 ;;
    *) echo "Not scored (exit code $code): the reason stands above." >&2; exit "$code" ;;
  esac
  [ "$attempt" = 3 ] || sleep "${RETRY_SECONDS:-600}"
done
exit 75
