#!/usr/bin/env bash
# From nothing to a served model, on a real control plane with simulated GPU nodes. KEEP=1 leaves everything up.
set -euo pipefail
cd "$(dirname "$0")/.."

NAME=demo
SYSTEM=trtllm-operator-system
NODES=${NODES:-2x8xNVIDIA-H100-80GB-HBM3}
EXAMPLE=examples/01-llama-70b.yaml

bold() { if [ -t 1 ]; then printf '\n\033[1m%s\033[0m\n' "$*"; else printf '\n%s\n' "$*"; fi; }
show() { printf '\n$ %s\n' "$*"; "$@"; }

finish() {
  code=$?
  if [ "${KEEP:-}" = 1 ] && [ $code = 0 ]; then
    bold 'Everything is still up. To use it from here, and to end it:'
    printf '  export KUBECONFIG="%s"\n  export PATH="%s:$PATH"\n' "$KUBECONFIG" "$bin:${helm%/*}"
    printf '  kill %s; trtllm-operator sandbox down --name %s   # with .venv/bin on PATH\n' "$operator" "$NAME"
  else
    if [ -n "${operator:-}" ]; then kill "$operator" 2>/dev/null && wait "$operator" || true; fi
    trtllm-operator sandbox down --name "$NAME" 2>/dev/null || true
  fi
  exit $code
}

if trtllm-operator sandbox status --name "$NAME" >/dev/null 2>&1; then
  bold "A sandbox named $NAME is up already (KEEP=1?); it is replaced"
  kill "$(cat "$(dirname "$(trtllm-operator sandbox kubeconfig --name "$NAME" --path)")/operator.pid")" 2>/dev/null || true
  trtllm-operator sandbox down --name "$NAME"
fi
trap finish EXIT
trap 'exit 1' HUP INT PIPE TERM

bold "A control plane and simulated GPU nodes ($NODES)"
helm=$(trtllm-operator sandbox helm)
trtllm-operator sandbox up --name "$NAME" --nodes "$NODES" >/dev/null
KUBECONFIG=$(trtllm-operator sandbox kubeconfig --name "$NAME" --path)
bin=$(trtllm-operator sandbox kubeconfig --name "$NAME" --bin)
export KUBECONFIG PATH="$bin:${helm%/*}:$PATH"
show kubectl get nodes -L nvidia.com/gpu.product,nvidia.com/gpu.count

bold 'The operator, installed by its chart'
show helm install trtllm-operator charts/trtllm-operator --namespace "$SYSTEM" --create-namespace --wait --hide-notes
show kubectl --namespace "$SYSTEM" get deployment,pod
printf '\nContainers do not run here: the pod is simulated. The operator runs beside it, under the account the chart made.\n'
state=$(dirname "$KUBECONFIG")
trtllm-operator sandbox kubeconfig --name "$NAME" --service-account "$SYSTEM/trtllm-operator" >"$state/operator.kubeconfig"
trtllm-operator run --kubeconfig "$state/operator.kubeconfig" >"$state/operator.log" 2>&1 &
operator=$!
echo "$operator" >"$state/operator.pid"

bold 'One object: a model, its dtype and a GPU count'
show cat "$EXAMPLE"
show kubectl apply -f "$EXAMPLE"
show kubectl wait --for=condition=Ready llmd/llama-70b --timeout=120s

bold 'What became of it (the GPUs and the container are simulated; plan, objects and scheduling are real)'
show kubectl get llmd llama-70b
show kubectl get deploy,svc,pod -o wide
node=$(kubectl get pods -l trtllm.dev/name=llama-70b -o jsonpath='{.items[0].spec.nodeName}')
printf '\nGPUs the scheduler has given away on %s:\n' "$node"
kubectl describe node "$node" | sed -n '/^Allocated resources/,/^Events/{/Resource\|nvidia/p}'
printf '\nWhy this plan:\n'
kubectl get llmd llama-70b -o jsonpath='{range .status.plan.because[*]}  {@}{"\n"}{end}'
printf '  %s\n' "$(kubectl get llmd llama-70b -o jsonpath='{.status.plan.summary}')"

bold 'What cannot run is refused with the numbers, and what runs keeps running'
show kubectl patch llmd llama-70b --type=merge -p '{"spec":{"gpus":{"count":1}}}'
show kubectl wait --for=condition=Stalled llmd/llama-70b --timeout=60s
kubectl get llmd llama-70b -o jsonpath='{.status.conditions[?(@.type=="Planned")].message}{"\n"}'
show kubectl get llmd llama-70b

bold 'Try next'
cat <<'NEXT'
  KEEP=1 make demo                                      keep the cluster and look around
  kubectl describe llmd llama-70b                       conditions and events
  kubectl explain llmd.spec                             every field
  kubectl apply -f examples/                            more models
  kubectl scale llmd llama-70b --replicas=2             scale
  helm install llama-8b charts/llm-deployment --wait --set model.uri=hf://meta-llama/Llama-3.1-8B-Instruct
  trtllm-operator render -f examples/01-llama-70b.yaml --nodes 2x8xNVIDIA-H100-80GB-HBM3
NEXT
