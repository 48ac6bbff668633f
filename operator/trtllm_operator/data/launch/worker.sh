#!/bin/bash
# Lets the leader start ranks in this pod, and stays until they have ended: a leader that drains still needs them.
set -euo pipefail
scripts=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=SCRIPTDIR/ssh.sh
. "$scripts/ssh.sh"

export -p >"$run/environment"
: >"$run/ranks"
cat >"$run/sshd_config" <<CONFIG
Port ${REPLICA_SSH_PORT:?}
HostKey $run/key
AuthorizedKeysFile $run/key.pub
AuthenticationMethods publickey
PermitRootLogin prohibit-password
UsePAM no
StrictModes no
PidFile none
DisableForwarding yes
PermitTTY no
ForceCommand /bin/bash $scripts/session.sh $run
LogLevel ERROR
CONFIG
# sshd run as root wants this directory for the part of it that has no rights; it may not be there.
[[ $EUID -ne 0 ]] || mkdir -p /run/sshd

sshd=$(PATH=$PATH:/usr/sbin command -v sshd) || {
  echo "this image has no sshd, which a replica of several pods needs" >&2
  exit 1
}
"$sshd" -D -e -f "$run/sshd_config" &
server=$!
trap 'flock --exclusive "$run/ranks" true; kill "$server"' TERM
status=0
wait "$server" || status=$?
exit "$status"
