"""Kubernetes operator that turns one LLMDeployment into a correctly parallelised trtllm-serve."""

__version__ = "0.1.0"
