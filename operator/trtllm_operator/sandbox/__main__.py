"""``python -m trtllm_operator.sandbox``: the sandbox's commands without the rest of the operator."""

from trtllm_operator.sandbox.cli import sandbox

sandbox(prog_name="trtllm-operator sandbox")
