#!/bin/bash
# What sshd runs in place of the leader's command: that command, in the environment of this container. The lock is
# held by everything the command starts, so that worker.sh knows when the last of it has ended.
set -euo pipefail
run=$1
# shellcheck source=/dev/null
. "$run/environment"
exec 9<"$run/ranks"
flock --shared 9
exec /bin/bash -c "$SSH_ORIGINAL_COMMAND"
