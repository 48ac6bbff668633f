"""The benchmark: the operator beside a bare client that applies the same manifests, in one run on one control plane."""
