#!/bin/bash
# Starts one rank per GPU over the pods of a replica. The arguments are the command of a rank.
set -euo pipefail
scripts=$(dirname "$0")
# shellcheck source=SCRIPTDIR/ssh.sh
. "$scripts/ssh.sh"

printf '* %s\n' "$(cat "$run/key.pub")" >"$run/known_hosts"
cat >"$run/ssh_config" <<CONFIG
Host *
  Port ${REPLICA_SSH_PORT:?}
  IdentityFile $run/key
  IdentitiesOnly yes
  BatchMode yes
  UserKnownHostsFile $run/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  CheckHostIP no
  ConnectTimeout 10
  ServerAliveInterval 30
  ServerAliveCountMax 10
  LogLevel ERROR
CONFIG

# LeaderWorkerSet names the pods of group G of set S: S-G is the leader, S-G-1 the first worker.
leader=${LWS_LEADER_ADDRESS%%.*}
domain=${LWS_LEADER_ADDRESS#*.}
hosts=("$LWS_LEADER_ADDRESS")
for ((index = 1; index < LWS_GROUP_SIZE; index++)); do
  hosts+=("$leader-$index.$domain")
done

deadline=$((SECONDS + ${REPLICA_JOIN_SECONDS:?}))
for host in "${hosts[@]:1}"; do
  until answer=$(getent hosts "$host" && ssh -F "$run/ssh_config" "$host" true 2>&1); do
    if ((SECONDS >= deadline)); then
      echo "$host did not join within $REPLICA_JOIN_SECONDS seconds: ${answer:-its name does not resolve}" >&2
      exit 1
    fi
    sleep 1
  done
done

# Open MPI 4 reads the first, Open MPI 5 the second.
export OMPI_MCA_plm_rsh_agent="ssh -F $run/ssh_config"
export PRTE_MCA_plm_ssh_agent=$OMPI_MCA_plm_rsh_agent
slots=${REPLICA_GPUS_PER_POD:?}
exec mpirun -n "$((LWS_GROUP_SIZE * slots))" \
  --host "$(printf "%s:$slots\n" "${hosts[@]}" | paste -sd ,)" \
  --map-by "ppr:$slots:node" --bind-to none "$@"
