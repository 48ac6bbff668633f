# shellcheck shell=bash
# Sourced by the leader and the workers: one key pair is the key of the user and of every host of this LLMDeployment,
# so that each end knows the other. ssh refuses a private key that others may read, and a mounted Secret can be one.
umask 077
run=${REPLICA_RUN_DIRECTORY:?}
install -m 600 "${REPLICA_KEY_FILE:?}" "$run/key"
ssh-keygen -y -f "$run/key" >"$run/key.pub"
